"""Assignments of embeddings to classes: Sinkhorn's codes, k-means, a bank.

All sums are over the global batch, or the whole bank: the same on any number
of devices.
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mmae_jax import information
from mmae_jax.information import spectra

# Rows of a bank that lie side by side. They are split over the devices, of
# which there may be so many; the blocks behind one another are not, so that a
# loop over blocks needs no communication.
BLOCK = 4096
BANK = PartitionSpec(None, ("data", "fsdp"))


def sinkhorn(scores, *, epsilon=0.05, iterations=3):
  """Codes that use all classes about equally: entropic optimal transport.

      Q = exp(scores / epsilon), and then `iterations` times
      Q_ik <- Q_ik / (K sum_i Q_ik),   Q_ik <- Q_ik / (B sum_k Q_ik),

  and in the end B Q. In log space: no score overflows, whatever epsilon.

  Args:
    scores: [..., classes]; all leading axes count samples, B in all.
    epsilon: of the entropy, positive; a smaller one gives harder codes.
    iterations: at least 1. The last step is the samples', so that rows sum to
      1 exactly and columns to about B / K.
  Returns:
    Codes, the shape of scores, at least float32, without a gradient.
  Raises:
    ValueError: epsilon is not positive or iterations < 1.
  Source:
    Cuturi 2013; Caron et al. 2020 (SwAV), https://arxiv.org/abs/2006.09882.
  """
  if not epsilon > 0:
    raise ValueError(f"epsilon must be positive, got {epsilon!r}")
  if iterations < 1:
    raise ValueError(f"iterations must be at least 1, got {iterations!r}")
  log_q = jax.lax.stop_gradient(spectra.widen(scores)) / epsilon
  samples = tuple(range(log_q.ndim - 1))
  batch, classes = math.prod(log_q.shape[:-1]), log_q.shape[-1]
  for _ in range(iterations):
    of_class = jax.nn.logsumexp(log_q, axis=samples, keepdims=True)
    log_q = log_q - of_class - math.log(classes)
    of_sample = jax.nn.logsumexp(log_q, axis=-1, keepdims=True)
    log_q = log_q - of_sample - math.log(batch)
  return jnp.exp(log_q + math.log(batch))


def bank_rows(count):
  """How the rows of a bank lie.

  Args:
    count: images.
  Returns:
    (blocks, BLOCK); the last block may have rows without an image.
  """
  return -(-count // BLOCK), BLOCK


def write_rows(bank, index, rows):
  """The bank with the rows of some images replaced.

  Args:
    bank: [blocks, BLOCK, ...], sharded as `BANK`.
    index: int [batch], of the images.
    rows: [batch, ...].
  Returns:
    The bank.
  """
  return bank.at[index // BLOCK, index % BLOCK].set(rows.astype(bank.dtype))


def read_rows(bank, index):
  """Rows of some images.

  Args:
    bank: [blocks, BLOCK, ...].
    index: int [batch], of the images.
  Returns:
    [batch, ...].
  """
  return bank[index // BLOCK, index % BLOCK]


def spherical_kmeans(key, bank, *, clusters, iterations=10):
  """Clusters unit rows by their cosines.

      a_i = argmax_k <z_i, c_k>,   c_k = sum_{i: a_i = k} z_i, normalised

  The first centroids are rows of the bank, drawn without replacement; a
  cluster without rows keeps its centroid. Rows that are zero are nobody's.

  Args:
    key: of the draw.
    bank: [blocks, BLOCK, dim], rows of unit length or zero.
    clusters: K; at most the rows that are not zero.
    iterations: of both steps.
  Returns:
    (assignments, centroids): int32 [blocks, BLOCK], -1 for zero rows, by the
    centroids [clusters, dim] of unit length.
  Source:
    Dhillon and Modha 2001; as DeepCluster-v2 has it (Caron et al. 2020,
    https://arxiv.org/abs/2006.09882, appendix D).
  """
  known = jnp.any(bank != 0, axis=-1)
  draws = jnp.where(known, jax.random.uniform(key, known.shape), -1.0)
  _, first = jax.lax.top_k(draws.ravel(), clusters)
  centroids = read_rows(bank, first)

  def assign(centroids):
    # [BLOCK, clusters] at a time.
    nearest = jax.lax.map(
      lambda rows: jnp.argmax(spectra.matmul(rows, centroids.T), axis=-1), bank
    )
    return jnp.where(known, nearest, -1).astype(jnp.int32)

  def step(_, centroids):
    nearest = assign(centroids)
    # Zero rows would go to the last centroid, and add nothing there.
    sums = jnp.zeros_like(centroids).at[nearest].add(bank)
    moved = information.normalise_rows(sums)
    return jnp.where(
      jnp.any(sums != 0, axis=1, keepdims=True), moved, centroids
    )

  centroids = jax.lax.fori_loop(0, iterations, step, centroids)
  return assign(centroids), centroids


def sizes(assignments, clusters):
  """How many rows each cluster has.

  Args:
    assignments: int [...], -1 is none.
    clusters: their number.
  Returns:
    int32 [clusters].
  """
  known = (assignments >= 0).astype(jnp.int32)
  counts = jnp.zeros((clusters,), jnp.int32)
  return counts.at[jnp.maximum(assignments, 0)].add(known)
