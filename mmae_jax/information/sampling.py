"""Sample-side entropies of many rows: subsets of them, or random features."""

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, entropy, spectra


def _repeated(key, measure, repeats):
  """Mean of measure(key) over independent keys and its standard error."""
  checks.check_count("repeats", repeats, least=2)
  # One after the other: the memory of one, whatever the number.
  values = jax.lax.map(measure, jax.random.split(key, repeats))
  return jnp.mean(values), jnp.std(values, ddof=1) / repeats**0.5


def _check_rows(rows, batch):
  checks.check_count("rows", rows)
  if rows > batch:
    raise ValueError(f"rows must be at most the batch, {batch}, got {rows}")


def _check_pairs(z1, z2):
  checks.check_matrix("z1", z1)
  checks.check_matrix("z2", z2)
  if jnp.shape(z1)[0] != jnp.shape(z2)[0]:
    raise ValueError(
      f"z2 must have the {jnp.shape(z1)[0]} rows of z1, got shape"
      f" {jnp.shape(z2)}"
    )


def subsampled_entropy(key, z, *, rows, repeats=8, order=1.0):
  """Matrix entropy of the sample Gram matrix of some of the rows.

      mean over repeats of H_a(K_S),   K_S = cosines of `rows` random rows

  An estimate of the expected entropy at that many rows and not of the entropy
  of all: entropies of sample Gram matrices grow with n (at most log n, and
  see `entropy_bias`), so compare it only with others of equally many rows.

  Args:
    key: jax random key.
    z: features, [batch, dim]; rows are normalised here.
    rows: size of each subset, drawn without replacement; at most batch.
    repeats: number of subsets, at least 2; independent, so they overlap.
    order: as in `matrix_entropy`.
  Returns:
    (estimate, standard_error), scalars in nats, without a gradient: mean over
    the subsets, and its standard error as an estimate of the mean over all
    subsets of this batch.
  Raises:
    ValueError: z is not a floating-point matrix, a count is too small, rows
      exceeds batch, or order <= 0.
  Source:
    The entropy of Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  z = spectra.normalise_rows(jax.lax.stop_gradient(z))
  _check_rows(rows, z.shape[0])

  def measure(key):
    chosen = z[jax.random.permutation(key, z.shape[0])[:rows]]
    k = spectra.gram(chosen, side="smaller")
    return entropy.matrix_entropy(k, order=order)

  return _repeated(key, measure, repeats)


def subsampled_joint_entropy(key, z1, z2, *, rows, repeats=8, order=1.0):
  """Matrix joint entropy of the sample Gram matrices of some of the rows.

      mean over repeats of H_a(K1_S o K2_S)

  At `rows` rows, not at all of them, as `subsampled_entropy`.

  Args:
    key: jax random key.
    z1: features of one branch, [batch, dim1]; rows are normalised here.
    z2: features of the other, [batch, dim2]; row i belongs to row i of z1.
    rows: size of each subset, drawn without replacement; at most batch.
    repeats: number of subsets, at least 2.
    order: as in `matrix_entropy`.
  Returns:
    (estimate, standard_error), scalars in nats, as `subsampled_entropy`.
  Raises:
    ValueError: as `subsampled_entropy`, or the numbers of rows differ.
  Source:
    The joint entropy of Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  _check_pairs(z1, z2)
  z1 = spectra.normalise_rows(jax.lax.stop_gradient(z1))
  z2 = spectra.normalise_rows(jax.lax.stop_gradient(z2))
  _check_rows(rows, z1.shape[0])

  def measure(key):
    chosen = jax.random.permutation(key, z1.shape[0])[:rows]
    return entropy.joint_entropy(
      spectra.cosine_gram(z1[chosen]),
      spectra.cosine_gram(z2[chosen]),
      order=order,
    )

  return _repeated(key, measure, repeats)


def random_feature_joint_entropy(
  key, z1, z2, *, features=1024, repeats=4, order=1.0
):
  """Matrix joint entropy of all rows by random features of the product.

      H_a(K1 o K2) ~ H_a(F F^T),   f_i = (R^T z1_i) * (S^T z2_i), unit length,

  with R [dim1, features] and S [dim2, features] of random signs. The product
  of two cosines is the inner product of z1_i (x) z2_i, of dim1 dim2 entries;
  E f_i^T f_j is that product before the rows are normalised. Costs
  features^2 (rows + features) operations and rows * features memory, where
  the exact value costs rows^3. A single entropy needs none of this: its
  feature side, `feature_spectrum`, is exact.

  It is biased low and never corrected: few features blur the spectrum as few
  samples do. With r = exp(H) the effective rank of K1 o K2, the deficit is
  about log(1 + r / features) at order 2 and r / (2 features) at order 1 while
  r is well below features; no more than log(features) can be reached. Double
  the features: what the estimate gains is about the bias that remains.

  Args:
    key: jax random key.
    z1: features of one branch, [batch, dim1]; rows are normalised here.
    z2: features of the other, [batch, dim2]; row i belongs to row i of z1.
    features: number of random features.
    repeats: independent draws of R and S, at least 2.
    order: as in `matrix_entropy`.
  Returns:
    (estimate, standard_error), scalars in nats, without a gradient; the error
    is that of the draws and does not contain the bias. If batch or
    dim1 * dim2 does not exceed features, the exact value and zero.
  Raises:
    ValueError: z1 or z2 is not a floating-point matrix, their rows differ, a
      count is too small, or order <= 0.
  Source:
    The joint entropy of Tan et al. 2023, https://arxiv.org/abs/2309.17281;
    random features of product kernels after Kar and Karnick 2012,
    https://arxiv.org/abs/1201.6530.
  """
  _check_pairs(z1, z2)
  checks.check_count("features", features)
  z1 = spectra.normalise_rows(jax.lax.stop_gradient(z1))
  z2 = spectra.normalise_rows(jax.lax.stop_gradient(z2))
  (batch, dim1), dim2 = z1.shape, z2.shape[1]
  if batch <= min(features, dim1 * dim2):
    exact = entropy.joint_entropy(
      spectra.cosine_gram(z1), spectra.cosine_gram(z2), order=order
    )
    return exact, jnp.zeros_like(exact)
  if dim1 * dim2 <= features:
    product = (z1[:, :, None] * z2[:, None, :]).reshape(batch, dim1 * dim2)
    exact = entropy.matrix_entropy(spectra.gram(product), order=order)
    return exact, jnp.zeros_like(exact)

  def measure(key):
    key1, key2 = jax.random.split(key)
    signs1 = jax.random.rademacher(key1, (dim1, features), z1.dtype)
    signs2 = jax.random.rademacher(key2, (dim2, features), z2.dtype)
    f = spectra.matmul(z1, signs1) * spectra.matmul(z2, signs2)
    k = spectra.gram(spectra.normalise_rows(f))
    return entropy.matrix_entropy(k, order=order)

  return _repeated(key, measure, repeats)
