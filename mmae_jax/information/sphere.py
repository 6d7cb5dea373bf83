"""Entropy and reconstruction: the two terms of the ER bound, and their loss.

    I(Z1; Z2) >= H(Z2) + E log q(Z2 | Z1),   for any conditional density q

Entropies are to be maximised. Reconstructions are losses, -mean log q, in nats.
Here for embeddings, foremost unit vectors under a von Mises-Fisher density;
categorical.py has both terms for class distributions. Matrices of rows against
rows are reduced along their second axis, so on a batch sharded over devices
their rows stay where they are and no more than [batch, dim] is gathered.
"""

import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax.information import checks, spectra
from mmae_jax.information.von_mises_fisher import (
  check_kappa,
  log_sphere_area,
  von_mises_fisher_log_normaliser,
)

ESTIMATORS = ("plugin", "joe")


def _check_concentration(kappa):
  """Raises ValueError unless kappa is one positive number."""
  check_kappa(kappa)
  if jnp.ndim(kappa) != 0:
    raise ValueError(f"kappa must be one number, got shape {jnp.shape(kappa)}")


def _excess_entropy(z, kappa, estimator, scope):
  """The kernel estimate of entropy of unit rows, less the constant c."""
  rows, dim = z.shape
  if estimator not in ESTIMATORS:
    raise ValueError(
      f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}"
    )
  if scope is None:
    scope = rows
  if not isinstance(scope, numbers.Integral) or scope < 1 or rows % scope:
    raise ValueError(
      f"scope must be None or divide the {rows} rows of z, got {scope!r}"
    )

  def of_group(z):
    # [scope, scope], self included; density_i is log p_i + c + log scope.
    density = jax.nn.logsumexp(kappa * spectra.matmul(z, z.T), axis=1)
    if estimator == "joe":
      return math.log(scope) - jnp.mean(density)
    return math.log(scope) - jnp.sum(jax.nn.softmax(density) * density)

  if scope == rows:
    return of_group(z)
  return jnp.mean(jax.vmap(of_group)(z.reshape(rows // scope, scope, dim)))


def mean_cosine(z1, z2):
  """Mean cosine of paired rows.

      mean_i <z1_i, z2_i> / (||z1_i|| ||z2_i||)

  Args:
    z1, z2: embeddings, [batch, dim]; rows are normalised here.
  Returns:
    Scalar without a unit in [-1, 1], at least float32.
  Raises:
    ValueError: z1 or z2 is not a floating-point matrix or their shapes differ.
  Source:
    The alignment of all methods on the sphere; SimSiam's loss is minus it.
  """
  checks.check_same_shape(z1=z1, z2=z2)
  cosines = spectra.normalise_rows(z1) * spectra.normalise_rows(z2)
  return jnp.mean(jnp.sum(cosines, axis=1))


def vmf_entropy(
  z, *, kappa=10.0, estimator="plugin", scope=None, bessel_floor=None
):
  """Entropy of unit vectors by a von Mises-Fisher kernel density estimate.

      log p_i = logsumexp_j(kappa <z_i, z_j>) - log k - c(dim, kappa)
      joe:     H = -mean_i log p_i
      plugin:  H = -sum_i w_i log p_i,   w = p / sum_l p_l  (differentiated)

  The k centres j are all rows, i itself included. H is between c - kappa (one
  point) and c - kappa + log k: once spread out, the self term dominates and
  the gradient vanishes. Smoothing makes H too large for concentrated rows, few
  rows make it too small for spread ones. The plug-in is at most Joe's, since
  its weights favour dense rows.

  Args:
    z: embeddings, [batch, dim]; rows are normalised here.
    kappa: concentration of the kernel, positive; the inverse squared
      bandwidth and the inverse temperature. A number, or a scalar array that
      may be traced.
    estimator: "plugin" or "joe".
    scope: None for one estimate with k = batch, or k: consecutive groups of k
      rows have an estimate each, and their mean is returned. It has to divide
      batch. The published curves fit 256 at every batch, as we read them.
    bessel_floor: see `von_mises_fisher_log_normaliser`.
  Returns:
    Scalar in nats, at least float32; far below zero for large dim, since the
    sphere's area is small (its log, the largest entropy, is -127.05 at dim
    128). Compare only at equal dim, kappa and k.
  Raises:
    ValueError: z is not a floating-point matrix, kappa is not positive, the
      estimator is unknown, or scope does not divide batch.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907; Joe 1989.
    The authors' program expects unit rows and has a wrong constant for dim of
    about 50 and more (bessel_floor=1e-7 gives it).
  """
  _check_concentration(kappa)
  z = spectra.normalise_rows(z)
  c = von_mises_fisher_log_normaliser(
    z.shape[1], kappa, bessel_floor=bessel_floor
  )
  return c + _excess_entropy(z, kappa, estimator, scope)


def vmf_uniform_entropy(rows, dim, *, kappa=10.0, bessel_floor=None):
  """What `vmf_entropy` gives for rows spread uniformly over the sphere.

      H* = c + log k - log(e^kappa + (k - 1) S),   S = 0F1(; dim/2; kappa^2/4)

  The self term of a row and k - 1 others, whose kernel has the mean S. No
  strict bound: a regular simplex is above it, at dim = k = 256 by 0.003.

  Args:
    rows, dim: k and the dimension of the embeddings, positive integers.
    kappa: concentration of the kernel, a positive number.
    bessel_floor: see `von_mises_fisher_log_normaliser`.
  Returns:
    H* in nats, a float.
  Raises:
    ValueError: one of them is not positive, rows or dim no integer.
  Source:
    Ours; the plateaus of figure 2 of Rodriguez-Galvez et al. 2023
    (https://arxiv.org/abs/2307.10907) fit it to 0.07 nats.
  """
  if not isinstance(rows, numbers.Integral) or rows < 1:
    raise ValueError(f"rows must be a positive integer, got {rows!r}")
  _check_concentration(kappa)
  kappa = float(kappa)
  c = von_mises_fisher_log_normaliser(dim, kappa, bessel_floor=bessel_floor)
  log_s = von_mises_fisher_log_normaliser(dim, kappa) - log_sphere_area(dim)
  others = math.log(rows - 1) + log_s if rows > 1 else -math.inf
  return c + math.log(rows) - float(np.logaddexp(kappa, others))


def vmf_reconstruction(z1, z2, *, kappa=10.0, bessel_floor=None):
  """Reconstruction loss of unit vectors under a von Mises-Fisher density.

      -mean_i log q(z2_i | z1_i) = c(dim, kappa) - kappa mean_i <z1_i, z2_i>

  Symmetric in its two arguments, so one call serves both directions. The
  gradient goes through both; callers stop that of a target.

  Args:
    z1: mean directions, [batch, dim], of the other view or of a predictor;
      rows are normalised here.
    z2: what they reconstruct, [batch, dim]; rows are normalised here.
    kappa: concentration, positive; a number or a scalar array.
    bessel_floor: see `von_mises_fisher_log_normaliser`.
  Returns:
    Scalar in nats, at least float32, between c - kappa and c + kappa.
  Raises:
    ValueError: z1 or z2 is not a floating-point matrix, their shapes differ,
      or kappa is not positive.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907. It is
    kappa/2 times BYOL's mean squared distance, plus c - kappa.
  """
  checks.check_same_shape(z1=z1, z2=z2)
  _check_concentration(kappa)
  c = von_mises_fisher_log_normaliser(
    jnp.shape(z1)[1], kappa, bessel_floor=bessel_floor
  )
  return c - kappa * mean_cosine(z1, z2)


def gaussian_reconstruction(prediction, target, *, scale=1.0):
  """Reconstruction loss under an isotropic normal density.

      mean_i ||t_i - p_i||^2 / (2 scale^2) + (dim/2) log(2 pi scale^2)

  On unit vectors it differs from `vmf_reconstruction` at kappa = 1 / scale^2
  by a constant.

  Args:
    prediction: means p, [batch, dim]; taken as they are.
    target: t, [batch, dim]; taken as they are.
    scale: standard deviation, a positive number.
  Returns:
    Scalar in nats, at least float32.
  Raises:
    ValueError: an argument is not a floating-point matrix, the shapes differ,
      or scale is not positive.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907.
  """
  checks.check_same_shape(prediction=prediction, target=target)
  checks.check_positive("scale", scale)
  difference = (spectra.widen(target) - spectra.widen(prediction)) / scale
  squared = jnp.mean(jnp.sum(difference * difference, axis=1))
  dim = difference.shape[1]
  return squared / 2.0 + dim * math.log(math.sqrt(2 * math.pi) * scale)


def generalised_normal_reconstruction(prediction, target, *, power, scale=1.0):
  """Reconstruction loss under a product of generalised normal densities.

      mean_i sum_j |(t_ij - p_ij) / scale|^power
        + dim log(2 scale Gamma(1 + 1/power))

  The density behind L_p losses: power 1 is Laplace's, power 2 the normal of
  standard deviation scale / sqrt 2.

  Args:
    prediction: means p, [batch, dim]; taken as they are.
    target: t, [batch, dim]; taken as they are.
    power: p of the norm, a positive number. Where prediction and target are
      equal the gradient is zero, also below 1, where it has no limit.
    scale: a positive number.
  Returns:
    Scalar in nats, at least float32.
  Raises:
    ValueError: an argument is not a floating-point matrix, the shapes differ,
      or power or scale is not positive.
  Source:
    Nadarajah 2005, "A generalized normal distribution", in each coordinate.
    The program of Rodriguez-Galvez et al. 2023 has no such density.
  """
  checks.check_same_shape(prediction=prediction, target=target)
  checks.check_positive("power", power)
  checks.check_positive("scale", scale)
  difference = (spectra.widen(target) - spectra.widen(prediction)) / scale
  apart = difference != 0
  distance = jnp.abs(jnp.where(apart, difference, 1.0))
  powers = jnp.where(apart, distance**power, 0.0)
  log_volume = math.log(2 * scale) + math.lgamma(1 + 1 / power)
  total = jnp.mean(jnp.sum(powers, axis=1))
  return total + difference.shape[1] * log_volume


def er_loss(
  z, prediction, target, *, kappa=10.0, estimator="plugin", scope=None
):
  """Negative ER bound of unit vectors, without constants: what one trains.

      -kappa mean_i <p_i, t_i> + avg_i logsumexp_j(kappa <z_i, z_j>) - log k
        = vmf_reconstruction(prediction, target) - vmf_entropy(z)

  Equal in value and gradient to the difference, in which c(dim, kappa)
  cancels. The average is by the weights of `vmf_entropy`; k is scope or the
  rows of z. Variants are sums of calls, with `stop` = lax.stop_gradient:

      both views:  (er_loss(z1, z1, z2) + er_loss(z2, z1, z2)) / 2
      a predictor and a teacher:
        (er_loss(z1, p1, stop(t2)) + er_loss(z2, p2, stop(t1))) / 2

  The entropy of a stopped teacher has no gradient: z is of the student. For
  class distributions the loss is `categorical_reconstruction` less
  `categorical_entropy`.

  Args:
    z: embeddings whose entropy is maximised, [rows, dim]; rows are normalised
      here. Their number may differ from that of the pairs.
    prediction: mean directions p, [batch, dim]; rows are normalised here.
    target: t, [batch, dim]; rows are normalised here.
    kappa: concentration of both terms, positive; a number or a scalar array.
    estimator: "plugin" or "joe", of the entropy.
    scope: size of the entropy's groups of rows, see `vmf_entropy`.
  Returns:
    Scalar in nats, at least float32: the negative estimate of the bound, at
    least -log k. Nearest to it at aligned, spread-out embeddings.
  Raises:
    ValueError: an argument is not a floating-point matrix, prediction and
      target differ in shape or from z in dim, kappa is not positive, the
      estimator is unknown, or scope does not divide the rows of z.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907. A training
    objective: smoothing makes the estimate exceed the mutual information of
    some pairs, so it is no bound on it.
  """
  checks.check_same_shape(prediction=prediction, target=target)
  checks.check_matrix("z", z)
  if jnp.shape(z)[1] != jnp.shape(prediction)[1]:
    raise ValueError(
      f"z must have the dim of prediction, {jnp.shape(prediction)[1]}, got"
      f" shape {jnp.shape(z)}"
    )
  _check_concentration(kappa)
  entropy = _excess_entropy(spectra.normalise_rows(z), kappa, estimator, scope)
  return -kappa * mean_cosine(prediction, target) - entropy
