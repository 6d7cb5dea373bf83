"""Regularisers of M-MAE and U-MAE: log-det coding rate, squared cosine."""

import math

import jax.numpy as jnp

from mmae_jax.information import spectra

NORMALISERS = ("feature_dim", "batch", "paper")


def _log_det_of_identity_plus(z, factor):
  """log det(I + factor Z^T Z) by Cholesky on the smaller side."""
  g = spectra.gram(z, side="smaller")
  # Sylvester: det(I_d + c Z^T Z) = det(I_B + c Z Z^T).
  eye = jnp.eye(g.shape[0], dtype=g.dtype)
  chol = jnp.linalg.cholesky(eye + factor * g)
  return 2.0 * jnp.sum(jnp.log(jnp.diagonal(chol)))


def coding_rate(z, *, scale=1.0, centre=False, normaliser="feature_dim"):
  """Log-det coding rate of unit-norm features.

      feature_dim:  log det(I + (scale / dim)   Z^T Z)
      batch:        log det(I + (scale / batch) Z^T Z)
      paper:        log det(scale I + Z^T Z)
                    = dim log(scale) + log det(I + Z^T Z / scale)

  The second form of "paper" is the feature_dim rate at scale dim / scale up
  to a constant. All are computed by a Cholesky factor on the smaller of the
  two sides, so the gradient is finite at repeated eigenvalues too.

  Args:
    z: features, [batch, dim]; rows are normalised here.
    scale: the factor called mu in M-MAE; positive.
    centre: subtract the mean of the normalised rows (no renormalisation).
    normaliser: "feature_dim", "batch" or "paper".
  Returns:
    Scalar in nats, at least float32; grows with the effective rank of z. At
    fixed scale it grows with the batch: keep scale * batch constant.
  Raises:
    ValueError: z is not a floating-point matrix, scale is not positive, or
      normaliser is unknown.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281: "paper" is the paper's
    formula, "feature_dim" the authors' program (whose comment says batch),
    which the published numbers most likely belong to.
  """
  if normaliser not in NORMALISERS:
    raise ValueError(
      f"normaliser must be one of {', '.join(NORMALISERS)}, got {normaliser!r}"
    )
  if not scale > 0:
    raise ValueError(f"scale must be positive, got {scale!r}")
  z = spectra.normalise_rows(z)
  if centre:
    z = spectra.centre_rows(z)
  batch, dim = z.shape
  if normaliser == "paper":
    return dim * math.log(scale) + _log_det_of_identity_plus(z, 1.0 / scale)
  size = dim if normaliser == "feature_dim" else batch
  return _log_det_of_identity_plus(z, scale / size)


def mean_squared_cosine(z):
  """Uniformity loss of U-MAE.

      (1 / batch^2) sum_{m,n} (z_m^T z_n)^2 = ||Z^T Z||_F^2 / batch^2

  Args:
    z: features, [batch, dim]; rows are normalised here.
  Returns:
    Scalar without a unit, at least float32: 1 at full collapse, at least
    max(1/batch, 1/dim). The diagonal is included and contributes 1/batch.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Zhang, Wang and Wang 2022, https://arxiv.org/abs/2210.08344. The authors'
    program forms the batch x batch matrix; the smaller side gives the same.
  """
  z = spectra.normalise_rows(z)
  g = spectra.gram(z, side="smaller")
  return jnp.sum(g * g) / z.shape[0] ** 2
