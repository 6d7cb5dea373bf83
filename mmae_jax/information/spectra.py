"""Gram matrices and spectra: what the entropies and coding rates are made of.

Conventions, once for the whole package: features are `[batch, dim]`, a row is
a sample; products and factorisations run in at least float32 (float64 stays
float64) at the highest matmul precision; spectra are returned in descending
order. Values inside an array are not checked here (arrays may be traced);
shapes and numbers known at trace time are.
"""

import jax
import jax.numpy as jnp

from mmae_jax.information.checks import check_matrix, check_square

# Eigenvalues below this share of the largest are round-off of a factorisation
# in that precision. float32: masked_autoencoders.md section 8 (without it, the
# entropy of order 1/2 of a rank-deficient Gram matrix is 1e-4 too large).
_RANK_FLOOR = {"float32": 1e-6, "float64": 1e-14}


def rank_floor(dtype):
  """Eigenvalues up to this share of the largest count as zero."""
  return _RANK_FLOOR[str(jnp.dtype(dtype))]


def widen(x):
  """x in at least float32, the precision of statistics."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def matmul(a, b):
  """a @ b at the highest precision (TPUs default to bfloat16 passes)."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def symmetric(a):
  """The symmetric part of a square matrix: rids a product of round-off."""
  return (a + a.T) / 2


def log_det(k):
  """log det of a symmetric positive definite matrix, by Cholesky."""
  return 2.0 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(k))))


@jax.custom_jvp
def self_product(a):
  """a @ a^T, whose gradient (g + g^T) a is one product and not two."""
  return matmul(a, a.T)


@self_product.defjvp
def _self_product_jvp(primals, tangents):
  (a,), (tangent,) = primals, tangents
  half = matmul(tangent, a.T)
  return self_product(a), half + half.T


def normalise_rows(z):
  """Rows of unit length, z_i / max(||z_i||, 1e-12).

  Args:
    z: features, [batch, dim].
  Returns:
    [batch, dim], at least float32. A row no longer than the floor gets a zero
    gradient, where a plain norm gives NaN at zero.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    The authors' programs all use this floor (torch's normalize).
  """
  check_matrix("z", z)
  z = widen(z)
  # Dividing by the largest entry first keeps the squares of very long and very
  # short rows inside float32; the result does not depend on that factor.
  largest = jax.lax.stop_gradient(jnp.max(jnp.abs(z), axis=-1, keepdims=True))
  scaled = z / jnp.where(largest > 0, largest, 1.0)
  squared = jnp.sum(scaled * scaled, axis=-1, keepdims=True)
  length = jnp.sqrt(jnp.where(largest > 0, squared, 1.0))
  short = largest * length <= 1e-12
  return jnp.where(short, jax.lax.stop_gradient(z) * 1e12, scaled / length)


def centre_rows(z):
  """Subtracts the mean over the batch from every row.

  Args:
    z: features, [batch, dim].
  Returns:
    [batch, dim] with zero column means, at least float32.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    (I - 11^T/batch) z of the M-MAE and Matrix-SSL programs.
  """
  check_matrix("z", z)
  z = widen(z)
  return z - jnp.mean(z, axis=0, keepdims=True)


def gram(z, *, side="feature"):
  """Uncentred, unscaled Gram matrix of features.

      feature side: Z^T Z, [dim, dim];   sample side: Z Z^T, [batch, batch]

  Args:
    z: features, [batch, dim]; taken as they are, see `normalise_rows`.
    side: "feature", "sample", or "smaller" (the cheaper of the two; both have
      the same non-zero eigenvalues).
  Returns:
    The symmetric matrix, at least float32. On a batch sharded over devices
    the feature side is partial products and one all-reduce of [dim, dim]; the
    sample side gathers [batch, dim] once.
  Raises:
    ValueError: z is not a floating-point matrix or side is unknown.
  Source:
    Notation of Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  check_matrix("z", z)
  if side not in ("feature", "sample", "smaller"):
    raise ValueError(
      f"side must be 'feature', 'sample' or 'smaller', got {side!r}"
    )
  z = widen(z)
  batch, dim = z.shape
  on_samples = side == "sample" or (side == "smaller" and batch < dim)
  return self_product(z if on_samples else z.T)


def covariance(z, *, side="feature", centre=True):
  """Second moment of features about their mean, or about zero.

      feature side: Z^T J Z / batch, [dim, dim];   J = I - 11^T / batch
      sample side:  J Z Z^T J / batch, [batch, batch];   J = I uncentred

  Args:
    z: features, [batch, dim]; taken as they are, see `normalise_rows`.
    side: "feature", "sample" or "smaller", as in `gram`.
    centre: subtract the mean over the batch.
  Returns:
    The symmetric matrix, at least float32, with the biased divisor `batch`;
    for unit rows its trace is 1 - ||mean||^2 centred and 1 uncentred.
  Raises:
    ValueError: z is not a floating-point matrix or side is unknown.
  Source:
    C(Z, Z) of Zhang et al. 2023, https://arxiv.org/abs/2305.17326.
  """
  g = gram(centre_rows(z) if centre else z, side=side)
  return g / jnp.shape(z)[0]


def cosine_gram(z):
  """Sample Gram matrix of unit-norm features, K_ij = cos(z_i, z_j).

  The matrix on which Tan et al. define entropies for contrastive methods: unit
  diagonal, positive semi-definite, rank at most min(batch, dim).

  Args:
    z: features, [batch, dim]; rows are normalised here.
  Returns:
    [batch, batch], at least float32, the diagonal exactly one (zero for a row
    that is zero).
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  z = normalise_rows(z)
  return _set_diagonal(gram(z, side="sample"), jnp.any(z != 0, axis=1))


def correlation(z):
  """Correlation matrix of the features, as Barlow Twins sees them.

      K_ij = <x_i, x_j> / (||x_i|| ||x_j||),   x_i = column i minus its mean

  The matrix on which Tan et al. define entropies for decorrelating methods:
  unit diagonal, positive semi-definite, rank at most min(batch - 1, dim). Its
  entropy is not that of `cosine_gram`, whose normalisation is by samples.

  Args:
    z: features, [batch, dim].
  Returns:
    [dim, dim], at least float32, the diagonal exactly one. A feature that is
    constant up to round-off has no correlation: its row, column and diagonal
    entry are zero, and its gradient is zero.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281; Barlow Twins' program
    adds 1e-5 to the variance, this does not.
  """
  check_matrix("z", z)
  z = widen(z)
  centred = centre_rows(z)
  # A constant column keeps round-off of its mean; scaled to unit length that
  # would pass for a feature.
  dead = jnp.linalg.norm(jax.lax.stop_gradient(centred), axis=0) <= (
    rank_floor(z.dtype) * jnp.linalg.norm(jax.lax.stop_gradient(z), axis=0)
  )
  columns = normalise_rows(jnp.where(dead, 0.0, centred).T)
  return _set_diagonal(self_product(columns), ~dead)


def _set_diagonal(k, present):
  """Takes round-off from a unit diagonal; its derivative is zero anyway."""
  on = jnp.eye(k.shape[0], dtype=bool)
  return jnp.where(on, present.astype(k.dtype)[:, None], k)


def unit_diagonal(k):
  """Scales a positive semi-definite matrix to ones on its diagonal.

      K_ij / sqrt(K_ii K_jj)

  Args:
    k: symmetric positive semi-definite, [n, n].
  Returns:
    [n, n], at least float32; a zero diagonal entry keeps its zero row.
  Raises:
    ValueError: k is not a square floating-point matrix.
  Source:
    The domain of matrix entropies in Tan et al. 2023 (arXiv 2309.17281).
  """
  check_square("k", k)
  k = widen(k)
  diagonal = jnp.diagonal(k)
  present = diagonal > 0
  root = jnp.where(present, jnp.sqrt(jnp.where(present, diagonal, 1.0)), 1.0)
  return _set_diagonal(k / root / root[:, None], present)


def unit_trace(k):
  """Density matrix k / tr k of a positive semi-definite matrix.

  Args:
    k: symmetric positive semi-definite, [n, n].
  Returns:
    [n, n] with trace one, at least float32. The zero matrix (exact collapse
    after centring) stays zero instead of becoming NaN.
  Raises:
    ValueError: k is not a square floating-point matrix.
  Source:
    Entropies are defined on unit-trace matrices; the papers state them for
    unit-diagonal ones, k / n. Dividing by the trace serves both.
  """
  check_square("k", k)
  k = widen(k)
  trace = jnp.trace(k)
  return k / jnp.where(trace > 0, trace, 1.0)


def spectrum(k):
  """Eigenvalues of the density matrix k / tr k.

  Args:
    k: symmetric positive semi-definite, [n, n].
  Returns:
    [n] probabilities in descending order that sum to one; those under the
    rank floor (1e-6 of the largest in float32, 1e-14 in float64) are zero.
    For diagnostics: no gradient goes through (that of eigenvalue entropies
    is infinite at zero eigenvalues).
  Raises:
    ValueError: k is not a square floating-point matrix.
  Source:
    Tan et al. 2023 (arXiv 2309.17281), section on matrix entropy.
  """
  k = jax.lax.stop_gradient(unit_trace(k))
  # Round-off makes a product unsymmetric in the last bit; eigvalsh reads one
  # triangle only, so without this the result would depend on the layout.
  p = jnp.linalg.eigvalsh(symmetric(k))[::-1]
  # Comparisons this way round: NaN stays NaN, and is not taken for zero.
  p = jnp.where(p <= rank_floor(p.dtype) * p[0], 0.0, p)
  total = jnp.sum(p)
  return p / jnp.where(total > 0, total, 1.0)


def feature_spectrum(z, *, centre=False):
  """Eigenvalues of the second moment of unit-norm features.

      p_i = lambda_i(Z^T Z) / tr(Z^T Z),   rows of Z normalised

  Args:
    z: features, [batch, dim]; rows are normalised here.
    centre: subtract the mean of the normalised rows first.
  Returns:
    [min(batch, dim)] probabilities in descending order; computed on the
    smaller side, since both sides have the same non-zero spectrum.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Tan et al. 2023 (arXiv 2309.17281); Roy and Vetterli 2007 for its use.
  """
  z = normalise_rows(z)
  if centre:
    z = centre_rows(z)
  return spectrum(gram(z, side="smaller"))
