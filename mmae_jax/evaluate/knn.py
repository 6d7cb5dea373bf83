"""Weighted nearest-neighbour classification of frozen features."""

import functools

from absl import logging
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from mmae_jax.evaluate import hosts
from mmae_jax.types import UsageError

_QUERIES = 1024  # rows compared at a time
_BLOCK = 16_384  # training rows they are compared with at a time


def nearest_neighbours(
  train: np.ndarray,
  queries: np.ndarray,
  *,
  k: int = 20,
  mesh: Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """The k training rows with the largest cosine to each query.

  Blocks of 1024 queries meet blocks of 16,384 training rows, so memory does
  not grow with either; the training rows are on every device, the queries are
  split over the mesh. Products are at the highest precision. Equal cosines
  are ordered by training row, the smaller first.

  Args:
    train: features, [rows, dim]; normalised here.
    queries: features, [queries, dim]; normalised here.
    k: neighbours; more than there are training rows is cut with a warning.
    mesh: devices to use; None is the default device. With several processes
      a collective operation on equal arguments.
  Returns:
    Training rows, int32 [queries, k], and cosines, float32 [queries, k], both
    by descending cosine.
  Raises:
    UsageError: k is not positive.
    ValueError: not two matrices of equal width.
  """
  if train.ndim != 2 or queries.ndim != 2 or train.shape[1] != queries.shape[1]:
    raise ValueError(
      "expected train [rows, dim] and queries [queries, dim], got"
      f" {list(train.shape)} and {list(queries.shape)}"
    )
  if k < 1:
    raise UsageError(f"--config.evaluation.knn.k={k}: must be at least 1")
  if k > len(train):
    logging.warning("k-NN: k %d cut to the %d training images", k, len(train))
    k = len(train)
  devices = 1 if mesh is None else mesh.devices.size
  chunk = -(-min(_QUERIES, len(queries)) // devices) * devices
  block = min(_BLOCK, len(train))
  bank = _pad_rows(_unit_rows(train), block).reshape(-1, block, train.shape[1])
  bank = _put(bank, mesh, split=False)
  padded = _pad_rows(_unit_rows(queries), chunk)
  indices, cosines = [], []
  for start in range(0, len(padded), chunk):
    part = _put(padded[start : start + chunk], mesh, split=True)
    index, cosine = _search(part, bank, k=k, rows=len(train))
    indices.append(hosts.to_host(index))
    cosines.append(hosts.to_host(cosine))
  count = len(queries)
  return np.concatenate(indices)[:count], np.concatenate(cosines)[:count]


@functools.partial(jax.jit, static_argnames=("k", "rows"))
def _search(queries, bank, *, k, rows):
  """Top k of queries [q, dim] in bank [blocks, block, dim]; padding last."""
  block = bank.shape[1]

  def merge(best, item):
    part, start = item
    # q query, b bank row, d dim
    cosine = jnp.einsum(
      "qd,bd->qb", queries, part, precision=jax.lax.Precision.HIGHEST
    )
    index = start + jnp.arange(block, dtype=jnp.int32)
    cosine = jnp.where(index < rows, cosine, -jnp.inf)
    cosine, place = jax.lax.top_k(cosine, min(k, block))
    # top_k prefers the left of two equals: earlier blocks stand there.
    cosine = jnp.concatenate([best[0], cosine], axis=1)
    index = jnp.concatenate([best[1], index[place]], axis=1)
    cosine, place = jax.lax.top_k(cosine, k)
    return (cosine, jnp.take_along_axis(index, place, axis=1)), None

  start = (
    jnp.full((queries.shape[0], k), -jnp.inf, queries.dtype),
    jnp.zeros((queries.shape[0], k), jnp.int32),
  )
  starts = block * jnp.arange(bank.shape[0], dtype=jnp.int32)
  (cosine, index), _ = jax.lax.scan(merge, start, (bank, starts))
  return index, cosine


def vote(
  labels: np.ndarray,
  cosines: np.ndarray,
  *,
  num_classes: int,
  temperature: float = 0.07,
) -> np.ndarray:
  """Classes by votes of weight exp(cosine / temperature).

      argmax_c sum_{j: label_j = c} exp(cosine_j / temperature)

  Args:
    labels: of the neighbours, int [queries, k].
    cosines: of the neighbours, [queries, k].
    num_classes: labels lie in 0..num_classes-1.
    temperature: positive; small ones let the nearest decide.
  Returns:
    int [queries]; of two classes with equal sums the smaller.
  Raises:
    UsageError: temperature is not positive.
  Source:
    Wu et al. 2018 (arXiv 1805.01978), with DINO's defaults k 20, T 0.07.
  """
  if not temperature > 0:
    raise UsageError(
      f"--config.evaluation.knn.temperature={temperature}: must be positive"
    )
  # A common factor changes no argmax: the largest weight is 1, none overflows.
  cosines = cosines.astype(np.float64)
  weights = np.exp((cosines - cosines.max(1, keepdims=True)) / temperature)
  predictions = []
  for start in range(0, len(labels), _QUERIES):
    part = labels[start : start + _QUERIES].astype(np.int64)
    cells = part + num_classes * np.arange(len(part))[:, None]
    sums = np.bincount(
      cells.ravel(),
      weights[start : start + _QUERIES].ravel(),
      minlength=num_classes * len(part),
    )
    predictions.append(sums.reshape(len(part), num_classes).argmax(1))
  return np.concatenate(predictions)


def knn_accuracy(
  train: np.ndarray,
  train_labels: np.ndarray,
  test: np.ndarray,
  test_labels: np.ndarray,
  *,
  k: int = 20,
  temperature: float = 0.07,
  mesh: Mesh | None = None,
) -> float:
  """Share of test images that their weighted neighbours classify rightly.

  Args:
    train: features, [rows, dim].
    train_labels: int [rows].
    test: features, [queries, dim].
    test_labels: int [queries].
    k: see `nearest_neighbours`.
    temperature: see `vote`.
    mesh: see `nearest_neighbours`.
  Returns:
    Accuracy in [0, 1].
  Raises:
    UsageError: an image without a label, a bad k or temperature.
  """
  if min(train_labels.min(), test_labels.min()) < 0:
    raise UsageError("k-NN needs labels, and this data has images without one")
  index, cosines = nearest_neighbours(train, test, k=k, mesh=mesh)
  classes = int(max(train_labels.max(), test_labels.max())) + 1
  predicted = vote(
    train_labels[index], cosines, num_classes=classes, temperature=temperature
  )
  return float(np.mean(predicted == test_labels))


def _unit_rows(x):
  x = np.asarray(x, np.float32)
  norms = np.linalg.norm(x, axis=1, keepdims=True)
  return x / np.maximum(norms, 1e-12)


def _pad_rows(x, multiple):
  return np.pad(x, ((0, -len(x) % multiple), (0, 0)))


def _put(x, mesh, *, split):
  if mesh is None:
    return jax.device_put(x)
  return hosts.to_mesh(x, mesh, split=split)
