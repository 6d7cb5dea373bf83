"""Barlow Twins: the cross-correlation of two views brought to the identity."""

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra, traces
from mmae_jax.objectives.networks import head
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective

_PROJECTOR = {
  "widths": (8192, 8192, 8192),
}


def barlow_twins_loss(z1, z2, *, off_diagonal_weight=0.0051):
  """Loss of Barlow Twins.

      sum_j (1 - C_jj)^2 + off_diagonal_weight sum_{j != k} C_jk^2,
      C = X1^T X2 / batch,   x_ij = (z_ij - mean_j) / sqrt(variance_j + 1e-5)

  X is BatchNorm without scale and offset, with the biased variance of the
  batch, so the loss hardly knows scale and offset of a feature. The squares
  are summed on the smaller of the sides [batch, batch] and [dim, dim].

  Args:
    z1, z2: projections of the two views, [batch, dim], not normalised; the
      gradient goes through both.
    off_diagonal_weight: called lambda, not negative.
  Returns:
    (loss, parts): the scalar without a unit, at least float32 and not
    negative, and its two sums, `on_diagonal` and `off_diagonal`, unweighted.
  Raises:
    ValueError: shapes differ, not floating-point matrices, fewer than two
      rows, or off_diagonal_weight is negative.
  Source:
    Zbontar et al. 2021, https://arxiv.org/abs/2103.03230. The authors' program
    does not differentiate its sum over GPUs: its gradient is that of this loss
    divided by their number, 16 in the published run.
    `information.bounds.barlow_loss` is the form without 1e-5.
  """
  checks.check_not_negative("off_diagonal_weight", off_diagonal_weight)
  checks.check_same_shape(z1=z1, z2=z2)
  checks.check_rows("z1", z1)
  x1, x2 = _standardised(z1), _standardised(z2)
  batch = x1.shape[0]
  on_diagonal = jnp.sum((1 - jnp.mean(x1 * x2, axis=0)) ** 2)
  off_diagonal = traces.off_diagonal_squares(x1, x2) / batch**2
  return on_diagonal + off_diagonal_weight * off_diagonal, {
    "on_diagonal": on_diagonal,
    "off_diagonal": off_diagonal,
  }


def _standardised(z):
  """Columns of mean zero and, but for the floor, variance one."""
  x = spectra.centre_rows(z)
  return x * jax.lax.rsqrt(jnp.mean(x * x, axis=0) + 1e-5)


def make(
  encoder, run, *, off_diagonal_weight=0.0051, weight=1.0, projector=None
) -> Objective:
  """Barlow Twins as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    off_diagonal_weight: as in `barlow_twins_loss`.
    weight: factor of the whole loss. LARS does not see it, parameters that
      LARS does not rescale do; the published run has 1/16, see the config.
    projector: keywords of `heads.MLP` that differ from the paper's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """
  checks.check_positive("weight", weight)

  def criterion(students, targets, step):
    del targets, step
    loss, metrics = barlow_twins_loss(
      *students, off_diagonal_weight=off_diagonal_weight
    )
    return weight * loss, metrics

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, _PROJECTOR, projector),
  )
