"""Gram matrices and spectra: what the entropies and coding rates are made of.

Conventions, once for the whole package: features are `[batch, dim]`, a row is
a sample; products and factorisations run in at least float32 (float64 stays
float64) at the highest matmul precision; spectra are returned in descending
order. Values inside an array are not checked here (arrays may be traced);
shapes and numbers known at trace time are.
"""

import jax
import jax.numpy as jnp

# Eigenvalues below this share of the largest are round-off of a factorisation
# in that precision. float32: masked_autoencoders.md section 8 (without it, the
# entropy of order 1/2 of a rank-deficient Gram matrix is 1e-4 too large).
_RANK_FLOOR = {"float32": 1e-6, "float64": 1e-14}


def check_matrix(name, x):
  """Raises ValueError unless x is a floating-point matrix with entries."""
  if jnp.ndim(x) != 2:
    raise ValueError(
      f"{name} must be a matrix [rows, columns], got shape {jnp.shape(x)}"
    )
  if 0 in jnp.shape(x):
    raise ValueError(f"{name} has no entries: shape {jnp.shape(x)}")
  if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
    raise ValueError(
      f"{name} must be floating point, got {jnp.result_type(x)}: cast it first"
    )


def check_square(name, k):
  """Raises ValueError unless k is a square floating-point matrix."""
  check_matrix(name, k)
  if k.shape[0] != k.shape[1]:
    raise ValueError(f"{name} must be square, got shape {jnp.shape(k)}")


def widen(x):
  """x in at least float32, the precision of statistics."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def matmul(a, b):
  """a @ b at the highest precision (TPUs default to bfloat16 passes)."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


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
  return matmul(z, z.T) if on_samples else matmul(z.T, z)


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
  p = jnp.linalg.eigvalsh((k + k.T) / 2)[::-1]
  floor = _RANK_FLOOR[str(p.dtype)] * p[0]
  p = jnp.where(p > floor, p, 0.0)
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
