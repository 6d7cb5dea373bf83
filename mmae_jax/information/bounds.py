"""Bounds that tie losses to information: contrastive, decorrelating, ER.

As in `theory`: every function returns both sides.
"""

import math

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, entropy, spectra, traces
from mmae_jax.information.theory import Sides


def spectral_loss(z1, z2, *, weight=1.0):
  """Spectral contrastive loss in the sum form of the theory.

      L = sum_i ||z1_i - z2_i||^2 + weight sum_{i != j} (z1_i^T z2_j)^2

  Args:
    z1, z2: features of the two branches, [batch, dim]; rows are normalised.
    weight: lambda, positive.
  Returns:
    Scalar without a unit.
  Raises:
    ValueError: shapes differ or weight <= 0.
  Source:
    The form in which Tan et al. 2023 (arXiv 2309.17281) bound it; HaoChen et
    al. 2021 (arXiv 2106.04156) train on means instead of sums.
  """
  checks.check_positive("weight", weight)
  checks.check_same_shape(z1=z1, z2=z2)
  z1, z2 = spectra.normalise_rows(z1), spectra.normalise_rows(z2)
  beside = traces.off_diagonal_squares(z1.T, z2.T)
  return jnp.sum((z1 - z2) ** 2) + weight * beside


def barlow_loss(z1, z2, *, weight=0.0051):
  """Barlow Twins' loss on exact correlations.

      L = sum_i (1 - C_ii)^2 + weight sum_{i != j} C_ij^2,
      C the cross-correlation of the two branches' features, [dim, dim]

  Args:
    z1, z2: features of the two branches, [batch, dim]; columns are centred
      and brought to unit length here.
    weight: lambda, positive.
  Returns:
    Scalar without a unit.
  Raises:
    ValueError: shapes differ or weight <= 0.
  Source:
    Zbontar et al. 2021, https://arxiv.org/abs/2103.03230; the program adds
    1e-5 to the variances, the theory does not.
  """
  checks.check_positive("weight", weight)
  checks.check_same_shape(z1=z1, z2=z2)
  x1, x2 = _unit_columns(z1), _unit_columns(z2)
  beside = traces.off_diagonal_squares(x1, x2)
  return jnp.sum((1 - jnp.sum(x1 * x2, axis=0)) ** 2) + weight * beside


def _unit_columns(z):
  return spectra.normalise_rows(spectra.centre_rows(z).T).T


def spectral_bounds(z1, z2, *, weight=1.0):
  """What the spectral contrastive loss guarantees, order 2.

      I_2(K1; K2) >= log B - 2 log(1 + (2 + 2/(B weight)) L)
      H_2(K1, K2) >= log B -   log(1 + (2 + 2/(B weight)) L)

  Tight at L = 0; empty once (2 + 2/(B weight)) L > sqrt(B) - 1 (for I_2). They
  do not say that mutual information grows while the loss falls.

  Args:
    z1, z2: features of the two branches, [batch, dim]; rows are normalised.
    weight: lambda of `spectral_loss`.
  Returns:
    (mutual information, joint entropy), each Sides with left >= right.
  Raises:
    ValueError: shapes differ or weight <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281; constants proved from
    K1_ij^2 <= 2 C_ij^2 + 2 ||z1_j - z2_j||^2.
  """
  batch = jnp.shape(z1)[0]
  loss = spectral_loss(z1, z2, weight=weight)
  grown = jnp.log1p((2 + 2 / (batch * weight)) * loss)
  k1, k2 = spectra.cosine_gram(z1), spectra.cosine_gram(z2)
  return _order_two(k1, k2, batch, grown)


def barlow_bounds(z1, z2, *, weight=0.0051):
  """What Barlow Twins' loss guarantees, order 2.

      I_2(K1; K2) >= log d - 2 log(1 + 2 L/(d weight) + 4 sqrt(d L))
      H_2(K1, K2) >= log d -   log(1 + 2 L/(d weight) + 4 sqrt(d L))

  Args:
    z1, z2: features of the two branches, [batch, dim]; K1 and K2 are their
      correlation matrices.
    weight: lambda of `barlow_loss`.
  Returns:
    (mutual information, joint entropy), each Sides with left >= right.
  Raises:
    ValueError: shapes differ or weight <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281, whose constants are not
    at hand; these are proved with ||x1_j - x2_j||^2 = 2 (1 - C_jj) and
    Cauchy-Schwarz. No feature may be constant.
  """
  dim = jnp.shape(z1)[1]
  loss = barlow_loss(z1, z2, weight=weight)
  grown = jnp.log1p(2 * loss / (dim * weight) + 4 * jnp.sqrt(dim * loss))
  k1, k2 = spectra.correlation(z1), spectra.correlation(z2)
  return _order_two(k1, k2, dim, grown)


def _order_two(k1, k2, n, grown):
  return (
    Sides(entropy.mutual_information(k1, k2, order=2), math.log(n) - 2 * grown),
    Sides(entropy.joint_entropy(k1, k2, order=2), math.log(n) - grown),
  )


def entropy_reconstruction_bound(joint, conditional):
  """The ER bound for discrete variables, and its gap.

      I(Z1; Z2) = H(Z2) - H(Z2 | Z1)
               >= H(Z2) + E log q(z2 | z1) = I_ER,
      gap = E_z1 KL(p(. | z1) || q(. | z1))

  Args:
    joint: probabilities of (z1, z2), [n, m], summing to one.
    conditional: any q(z2 | z1), [n, m], rows summing to one, positive where
      joint is.
  Returns:
    (Sides, gap): left the mutual information, right I_ER; left - right = gap,
    which is not negative.
  Raises:
    ValueError: not floating-point matrices of one shape.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907; the bound
    itself is Gallager's.
  """
  checks.check_same_shape(joint=joint, conditional=conditional)
  joint, q = spectra.widen(joint), spectra.widen(conditional)
  first, second = jnp.sum(joint, axis=1), jnp.sum(joint, axis=0)
  true = joint / jnp.where(first > 0, first, 1.0)[:, None]
  h2 = -_sum_x_log_y(second, second)
  mutual = h2 + _sum_x_log_y(joint, true)
  bound = h2 + _sum_x_log_y(joint, q)
  gap = _sum_x_log_y(joint, true) - _sum_x_log_y(joint, q)
  return Sides(mutual, bound), gap


def _sum_x_log_y(x, y):
  """sum x log y with 0 log 0 = 0."""
  present = x > 0
  return jnp.sum(jnp.where(present, x * jnp.log(jnp.where(present, y, 1)), 0))


def entropy_reconstruction_counter_example(*, kappa=10.0, angle=0.3):
  """Where the kernel estimate of ER is above the mutual information.

      Z1 = u constant, Z2 = cos(angle) u +- sin(angle) w by a fair coin
      independent of Z1:  I = 0, and the estimate from infinitely many samples
      tends to -kappa (1 - cos angle) - log((1 + exp(-2 kappa sin^2 angle))/2)

  A kernel density estimate smooths and so overestimates H(Z2): on the sphere
  the estimated I_ER is an objective, not a lower bound. (The discrete plug-in
  estimate is a lower bound in expectation.)

  Args:
    kappa: concentration, positive.
    angle: in radians.
  Returns:
    Sides: left the true mutual information 0, right the limit of the estimate;
    with the defaults right = 0.086 > left.
  Raises:
    ValueError: kappa <= 0.
  Source:
    Derived here, against the bound of arXiv 2307.10907.
  """
  checks.check_positive("kappa", kappa)
  limit = -kappa * (1 - math.cos(angle)) - math.log(
    0.5 * (1 + math.exp(-2 * kappa * math.sin(angle) ** 2))
  )
  return Sides(jnp.asarray(0.0), jnp.asarray(limit))


def info_nce_cap(z1, z2, *, temperature=0.1):
  """InfoNCE cannot say more than the logarithm of the batch.

      I_NCE = mean_i log(e^(s_ii / t) / (1/k sum_j e^(s_ij / t))) <= log k

  Args:
    z1, z2: features of the two branches, [k, dim]; rows are normalised.
    temperature: t, positive.
  Returns:
    Sides, left I_NCE, right log k; left <= right.
  Raises:
    ValueError: shapes differ or temperature <= 0.
  Source:
    van den Oord et al. 2018 (arXiv 1807.03748), cross-view candidates only, as
    in section 2 of Rodriguez-Galvez et al. 2023.
  """
  checks.check_positive("temperature", temperature)
  checks.check_same_shape(z1=z1, z2=z2)
  z1, z2 = spectra.normalise_rows(z1), spectra.normalise_rows(z2)
  logits = spectra.matmul(z1, z2.T) / temperature
  log_k = math.log(logits.shape[0])
  evidence = jax.nn.logsumexp(logits, axis=1) - log_k
  return Sides(jnp.mean(jnp.diagonal(logits) - evidence), jnp.asarray(log_k))
