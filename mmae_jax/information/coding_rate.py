"""Log-det coding rates of M-MAE, TCR and MEC; U-MAE's squared cosine.

One quantity under many letters. With unit rows, B of them, of dimension d:

    log det(I + f Z^T Z),   f = scale / d          M-MAE's program ("mu")
                              = 1 / mu_paper       M-MAE's paper, + d log mu
                              = d / (B epsilon^2)  TCR and MEC
                              = 1 / (B ridge)      log det of C + ridge I

`paper_scale`, `scale_from_epsilon_squared`, `ridge_from_epsilon_squared` and
`umae_weight` go from one to the other.
"""

import math

import jax.numpy as jnp

from mmae_jax.information import checks, spectra, traces

NORMALISERS = ("feature_dim", "batch", "paper")


def _log_det_of_identity_plus(z, factor):
  """log det(I + factor Z^T Z) by Cholesky on the smaller side."""
  g = spectra.gram(z, side="smaller")
  # Sylvester: det(I_d + c Z^T Z) = det(I_B + c Z Z^T).
  eye = jnp.eye(g.shape[0], dtype=g.dtype)
  return spectra.log_det(eye + factor * g)


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
  checks.check_positive("scale", scale)
  z = spectra.normalise_rows(z)
  if centre:
    z = spectra.centre_rows(z)
  batch, dim = z.shape
  if normaliser == "paper":
    return dim * math.log(scale) + _log_det_of_identity_plus(z, 1.0 / scale)
  size = dim if normaliser == "feature_dim" else batch
  return _log_det_of_identity_plus(z, scale / size)


def total_coding_rate(z, *, epsilon_squared, centre=False):
  """Total coding rate (TCR).

      1/2 log det(I + dim / (batch epsilon^2) Z^T Z)

  With ridge = epsilon^2 / dim this is, up to a positive factor and a constant,
  minus the matrix cross-entropy of a multiple of the identity to the second
  moment plus ridge I: see `theory.coding_rate_as_cross_entropy`.

  Args:
    z: features, [batch, dim]; rows are normalised here.
    epsilon_squared: squared distortion, positive. EMP-SSL's program writes
      eps = 0.2 for epsilon^2 = 0.2.
    centre: subtract the mean of the normalised rows.
  Returns:
    Scalar in nats, at least float32; the loss of TCR is its negative. At most
    dim/2 log(1 + 1/epsilon^2), reached by Z^T Z = batch/dim I.
  Raises:
    ValueError: z is not a floating-point matrix, epsilon_squared <= 0.
  Source:
    Yu et al. 2020 (arXiv 2006.08558); section 2 of Zhang et al. 2023,
    https://arxiv.org/abs/2305.17326.
  """
  checks.check_positive("epsilon_squared", epsilon_squared)
  z = spectra.normalise_rows(z)
  if centre:
    z = spectra.centre_rows(z)
  batch, dim = z.shape
  return 0.5 * _log_det_of_identity_plus(z, dim / (batch * epsilon_squared))


def maximum_entropy_coding(z1, z2, *, epsilon_squared, order=None):
  """Coding length of two branches (MEC), as the paper scales it.

      (batch + dim)/2 log det(I + dim / (batch epsilon^2) Z1 Z2^T)

  The matrix is not symmetric, so its determinant may be zero or negative and
  the logarithm undefined; with `order` the logarithm is its Taylor polynomial
  about I, which every matrix has and which is near the logarithm only for
  batch epsilon^2 / dim above the spectral radius of Z1 Z2^T.

  Args:
    z1, z2: features of the two branches, [batch, dim]; rows are normalised
      here and not centred.
    epsilon_squared: squared distortion, positive; MEC's default is 64 at
      batch 1024 and dim 2048. A number, or a scalar that may be traced.
    order: terms of the Taylor polynomial (4 in MEC's program); None takes the
      exact determinant.
  Returns:
    Scalar in nats, at least float32; NaN where order is None and the
    determinant is not positive. MEC's program trains on minus this times
    2 epsilon^2 / (dim (batch + dim)), averaged over both pairings of views.
  Raises:
    ValueError: shapes differ, epsilon_squared <= 0, order < 1.
  Source:
    Liu et al. 2022, https://arxiv.org/abs/2210.11464.
  """
  checks.check_positive("epsilon_squared", epsilon_squared)
  if order is not None:
    checks.check_order(order)
  checks.check_same_shape(z1=z1, z2=z2)
  z1, z2 = spectra.normalise_rows(z1), spectra.normalise_rows(z2)
  batch, dim = z1.shape
  # Z1 Z2^T and Z2^T Z1 have the same non-zero eigenvalues.
  c = spectra.matmul(z1, z2.T) if batch <= dim else spectra.matmul(z2.T, z1)
  c = dim / (batch * epsilon_squared) * c
  if order is None:
    sign, value = jnp.linalg.slogdet(jnp.eye(len(c), dtype=c.dtype) + c)
    value = jnp.where(sign > 0, value, jnp.nan)
  else:
    signs = tuple((-1) ** k / (k + 1) for k in range(order))
    value = traces.power_sum(c, signs)
  return (batch + dim) / 2 * value


def paper_scale(scale, *, dim):
  """The mu of M-MAE's paper that equals a scale of its program, and back.

      log det(mu I + Z^T Z) = dim log mu + log det(I + Z^T Z / mu),
      mu = dim / scale   and   scale = dim / mu

  Args:
    scale: of `coding_rate` with normaliser "feature_dim"; or the paper's mu.
    dim: feature dimension.
  Returns:
    The other of the two.
  Raises:
    ValueError: scale or dim is not positive.
  Source:
    Tan et al. 2023 (arXiv 2309.17281) against its program: the published mu of
    1 (ViT-B, dim 768) would be 768 in the paper's formula.
  """
  checks.check_positive("scale", scale)
  checks.check_positive("dim", dim)
  return dim / scale


def scale_from_epsilon_squared(epsilon_squared, *, batch, dim):
  """The scale of `coding_rate` that equals a distortion of TCR and MEC.

      scale / dim = dim / (batch epsilon^2)

  Args:
    epsilon_squared: squared distortion, positive.
    batch, dim: of the features.
  Returns:
    scale = dim^2 / (batch epsilon^2), for normaliser "feature_dim".
  Raises:
    ValueError: an argument is not positive.
  Source:
    Algebra on both definitions.
  """
  checks.check_positive("epsilon_squared", epsilon_squared)
  checks.check_positive("batch", batch)
  checks.check_positive("dim", dim)
  return dim**2 / (batch * epsilon_squared)


def ridge_from_epsilon_squared(epsilon_squared, *, dim):
  """The ridge of Matrix-SSL's covariance that equals a distortion of TCR.

      log det(I + dim / (batch epsilon^2) Z^T Z) = log det(I + C / ridge),
      ridge = epsilon^2 / dim,   C = Z^T Z / batch

  Args:
    epsilon_squared: squared distortion, positive.
    dim: feature dimension.
  Returns:
    The ridge (lambda in the paper).
  Raises:
    ValueError: an argument is not positive.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326, theorem on TCR; the
    ridge 1 of its program at dim 2048 is epsilon^2 = 2048.
  """
  checks.check_positive("epsilon_squared", epsilon_squared)
  checks.check_positive("dim", dim)
  return epsilon_squared / dim


def umae_weight(weight, *, scale, batch, dim):
  """U-MAE's weight that M-MAE's regulariser has to second order.

      weight scale^2 batch^2 / (2 dim^2)

  Args:
    weight: of M-MAE's coding rate.
    scale: of `coding_rate` with normaliser "feature_dim".
    batch, dim: of the features.
  Returns:
    The weight of `mean_squared_cosine` whose gradient is near M-MAE's near
    isotropy; `theory.umae_as_second_order` bounds the difference.
  Raises:
    ValueError: scale, batch or dim is not positive.
  Source:
    Tan et al. 2023 (arXiv 2309.17281), theorem on U-MAE, with the program's
    normaliser.
  """
  checks.check_positive("scale", scale)
  checks.check_positive("batch", batch)
  checks.check_positive("dim", dim)
  return weight * (scale * batch / dim) ** 2 / 2


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
