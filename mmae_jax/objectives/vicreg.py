"""VICReg: variance, invariance and covariance."""

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra, traces
from mmae_jax.objectives.networks import head
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective

_PROJECTOR = {
  "widths": (8192, 8192, 8192),
  "hidden_bias": True,
}


def vicreg_loss(z1, z2, *, invariance=25.0, variance=25.0, covariance=1.0):
  """Loss of VICReg.

      invariance mean_ij (z1_ij - z2_ij)^2
        + variance 1/2 sum_v mean_j max(0, 1 - sqrt(V_jj + 1e-4))
        + covariance sum_v sum_{j != k} V_jk^2 / dim,
      V = Z^T J Z / (batch - 1),   J = I - 11^T / batch,   of each view v

  The squares are summed on the smaller of the sides [batch, batch] and
  [dim, dim].

  Args:
    z1, z2: projections of the two views, [batch, dim]; taken as they are. The
      gradient goes through both.
    invariance, variance, covariance: weights of the terms, not negative.
  Returns:
    (loss, parts): the scalar without a unit, at least float32, and its three
    terms, unweighted.
  Raises:
    ValueError: shapes differ, not floating-point matrices, fewer than two
      rows, or a weight is negative.
  Source:
    Bardes, Ponce and LeCun 2021, https://arxiv.org/abs/2105.04906, with the
    factors of the authors' program: its variance term is the mean of the two
    views, its covariance term their sum.
  """
  for name, weight in (
    ("invariance", invariance),
    ("variance", variance),
    ("covariance", covariance),
  ):
    checks.check_not_negative(name, weight)
  checks.check_same_shape(z1=z1, z2=z2)
  checks.check_rows("z1", z1)
  distance = jnp.mean((spectra.widen(z1) - spectra.widen(z2)) ** 2)
  spread, redundancy = (
    sum(terms) for terms in zip(_of_view(z1), _of_view(z2), strict=True)
  )
  terms = {
    "invariance": distance,
    "variance": spread / 2,
    "covariance": redundancy,
  }
  loss = (
    invariance * terms["invariance"]
    + variance * terms["variance"]
    + covariance * terms["covariance"]
  )
  return loss, terms


def _of_view(z):
  """Hinge on the standard deviations, and squared covariances, of one view."""
  x = spectra.centre_rows(z)
  batch, dim = x.shape
  deviation = jnp.sqrt(jnp.sum(x * x, axis=0) / (batch - 1) + 1e-4)
  squares = traces.off_diagonal_squares(x, x) / (batch - 1) ** 2
  return jnp.mean(jax.nn.relu(1 - deviation)), squares / dim


def make(
  encoder,
  run,
  *,
  invariance=25.0,
  variance=25.0,
  covariance=1.0,
  projector=None,
) -> Objective:
  """VICReg as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    invariance, variance, covariance: as in `vicreg_loss`.
    projector: keywords of `heads.MLP` that differ from the paper's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """

  def criterion(students, targets, step):
    del targets, step
    return vicreg_loss(
      *students,
      invariance=invariance,
      variance=variance,
      covariance=covariance,
    )

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, _PROJECTOR, projector),
  )
