"""The papers' statements about these quantities: each returns both sides.

A statement is a function to `Sides(left, right)`, equal or ordered as its
docstring says, so that a reader can check it on features of their own. What
was found only approximately true, or false, is said where it stands.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmae_jax.information import (
  checks,
  coding_rate as rates,
  divergence,
  entropy,
  spectra,
)


class Sides(NamedTuple):
  """The two sides of a statement, in nats where it does not say otherwise."""

  left: jax.Array
  right: jax.Array


def entropy_as_divergence(k):
  """Matrix entropy is the distance to the identity, with its sign turned.

      H_1(K) = log n - MKL(K || I) / n

  Args:
    k: unit-diagonal positive semi-definite, [n, n].
  Returns:
    Sides, equal.
  Raises:
    ValueError: k is not a square floating-point matrix.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  checks.check_square("k", k)
  n = k.shape[0]
  eye = jnp.eye(n, dtype=spectra.widen(k).dtype)
  return Sides(
    entropy.matrix_entropy(k),
    math.log(n) - divergence.matrix_kl(k, eye) / n,
  )


def coding_rate_as_divergence(k, *, mu):
  """The coding rate of a Gram matrix is the other orientation of that KL.

      log det(mu I + K) = n log(1 + mu) - MKL(I || (mu I + K) / (1 + mu))

  Args:
    k: unit-diagonal positive semi-definite, [n, n].
    mu: positive.
  Returns:
    Sides, equal.
  Raises:
    ValueError: k is not a square floating-point matrix or mu <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281 (the identity is exact;
    the paper's wording is not at hand).
  """
  checks.check_square("k", k)
  checks.check_positive("mu", mu)
  k = spectra.widen(k)
  n = k.shape[0]
  eye = jnp.eye(n, dtype=k.dtype)
  kl = divergence.matrix_kl(eye, (mu * eye + k) / (1 + mu))
  return Sides(spectra.log_det(mu * eye + k), n * math.log1p(mu) - kl)


def _regularised(z, ridge):
  """(1/d + ridge) I, C + ridge I, and the total coding rate they speak of."""
  checks.check_positive("ridge", ridge)
  z = spectra.normalise_rows(z)
  dim = z.shape[1]
  eye = jnp.eye(dim, dtype=z.dtype)
  return (
    (1 / dim + ridge) * eye,
    spectra.covariance(z, centre=False) + ridge * eye,
    rates.total_coding_rate(z, epsilon_squared=dim * ridge),
  )


def coding_rate_as_cross_entropy(z, *, ridge):
  """TCR is a matrix cross-entropy between a multiple of I and C + ridge I.

      MCE((1/d + ridge) I, C + ridge I)
        = (1 + d ridge) (1 - log ridge - 2/d TCR),   epsilon^2 = d ridge

  The paper's earlier text lacks the factor 1/d + ridge on the logarithm.

  Args:
    z: features, [batch, dim]; rows are normalised, C = Z^T Z / batch.
    ridge: positive.
  Returns:
    Sides, equal.
  Raises:
    ValueError: z is not a floating-point matrix or ridge <= 0.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326, theorem on TCR.
  """
  p, q, tcr = _regularised(z, ridge)
  dim = len(q)
  return Sides(
    divergence.matrix_cross_entropy(p, q),
    (1 + dim * ridge) * (1 - math.log(ridge) - 2 / dim * tcr),
  )


def coding_rate_as_kl(z, *, ridge):
  """The same with the Kullback-Leibler divergence.

      MKL((1/d + ridge) I || C + ridge I)
        = (1 + d ridge) (log((1 + d ridge) / (d ridge)) - 2/d TCR)

  Zero only at C = I/d, which needs batch >= dim.

  Args:
    z: features, [batch, dim]; rows are normalised, C = Z^T Z / batch.
    ridge: positive.
  Returns:
    Sides, equal.
  Raises:
    ValueError: z is not a floating-point matrix or ridge <= 0.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326.
  """
  p, q, tcr = _regularised(z, ridge)
  dim = len(q)
  return Sides(
    divergence.matrix_kl(p, q),
    (1 + dim * ridge) * (math.log1p(1 / (dim * ridge)) - 2 / dim * tcr),
  )


def effective_rank_as_divergence(z):
  """The effective rank counts how far C is from isotropy.

      erank(C) = d exp(-MKL(C || I/d)),   C = Z^T Z / batch of unit rows

  Args:
    z: features, [batch, dim]; rows are normalised here.
  Returns:
    Sides, equal; effective ranks, without a unit.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326, proposition on erank.
  """
  z = spectra.normalise_rows(z)
  dim = z.shape[1]
  eye = jnp.eye(dim, dtype=z.dtype)
  c = spectra.unit_trace(spectra.gram(z))
  return Sides(
    entropy.effective_rank(z),
    dim * jnp.exp(-divergence.matrix_kl(c, eye / dim)),
  )


def coding_rate_cap(z, *, mu):
  """The most that a coding rate of unit rows can be.

      log det(mu I + Z^T Z) <= d log(mu + B/d),   equal at Z^T Z = B/d I

  Args:
    z: features, [batch, dim]; rows are normalised here.
    mu: positive.
  Returns:
    Sides, left <= right.
  Raises:
    ValueError: z is not a floating-point matrix or mu <= 0.
  Source:
    Concavity of log det; Tan et al. 2023 (arXiv 2309.17281).
  """
  batch, dim = z.shape
  return Sides(
    rates.coding_rate(z, scale=mu, normaliser="paper"),
    dim * jnp.log(mu + batch / dim),
  )


def mutual_information_cap(k1, k2, *, order=1.0):
  """Mutual information is at most either entropy, and log n.

      I_a(K1; K2) <= min(H_a(K1), H_a(K2)) <= log n

  Both are log n at K1 = K2 = I, whatever the pairing of the rows.

  Args:
    k1, k2: unit-diagonal positive semi-definite, [n, n].
    order: as in `matrix_entropy`.
  Returns:
    Sides, left <= right (the smaller entropy).
  Raises:
    ValueError: as `mutual_information`.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281: the maximum, here by
    max(H(K1), H(K2)) <= H(K1 o K2).
  """
  return Sides(
    entropy.mutual_information(k1, k2, order=order),
    jnp.minimum(
      entropy.matrix_entropy(k1, order=order),
      entropy.matrix_entropy(k2, order=order),
    ),
  )


def joint_entropy_rank_cap(k1, k2):
  """Joint entropy is at most the logarithm of the product's rank.

      H_1(K1, K2) <= log rank(K1 o K2) <= log rank K1 + log rank K2

  Args:
    k1, k2: unit-diagonal positive semi-definite, [n, n].
  Returns:
    Sides, left <= right (log rank of the Hadamard product).
  Raises:
    ValueError: as `joint_entropy`.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  joint = entropy.joint_entropy(k1, k2)
  p = spectra.spectrum(spectra.widen(k1) * spectra.widen(k2))
  return Sides(joint, jnp.log(jnp.sum(p > 0).astype(p.dtype)))


def umae_as_second_order(z, *, scale=1.0):
  """U-MAE's regulariser as the second-order part of M-MAE's, with its error.

      log det(I + X) = tr X - ||X||_F^2 / 2 + r,   0 <= r <= tr X^3 / 3,
      X = scale/d Z^T Z,   ||X||_F^2 / 2 = (scale B / d)^2 / 2 * U-MAE

  Near isotropy r vanishes; at collapse the largest eigenvalue of X is
  scale B / d, and where that is 1 or more the series does not even converge:
  "special case" holds to second order, not as an identity.

  Args:
    z: features, [batch, dim]; rows are normalised here.
    scale: of `coding_rate` with normaliser "feature_dim".
  Returns:
    (Sides, bound): left the coding rate, right its second-order part, with
    0 <= left - right <= bound.
  Raises:
    ValueError: z is not a floating-point matrix or scale <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281, theorem on U-MAE; the
    bound is that of log(1 + x) - x + x^2 / 2 on x >= 0.
  """
  z = spectra.normalise_rows(z)
  batch, dim = z.shape
  g = scale / dim * spectra.gram(z, side="smaller")
  weight = rates.umae_weight(1.0, scale=scale, batch=batch, dim=dim)
  second = jnp.trace(g) - weight * rates.mean_squared_cosine(z)
  cube = jnp.sum(spectra.matmul(g, g) * g)
  return Sides(rates.coding_rate(z, scale=scale), second), cube / 3
