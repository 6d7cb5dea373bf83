"""MEC: maximum entropy coding of a student against an average teacher."""

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.information import checks
from mmae_jax.objectives import parts
from mmae_jax.objectives.networks import (
  SIAMESE_PREDICTOR,
  SIAMESE_PROJECTOR,
  Teacher,
  head,
)
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective


def mec_loss(p1, p2, z1, z2, *, lambda_inverse, order=4):
  """Loss of MEC.

      -(l / batch) (tr T(I + z1 p2^T / l) + tr T(I + z2 p1^T / l)) / 2,
      tr T(I + C) = sum_{k=1..order} (-1)^(k+1) tr C^k / k ~ log det(I + C),
      l = lambda_inverse;   unit rows, not centred

  The first of the terms is minus the mean cosine, and at a large l the others
  are small beside it. The loss is minus `information.maximum_entropy_coding`,
  with epsilon^2 = l dim / batch, times 2 l / (batch (batch + dim)): products of
  the smaller of the sides [batch, batch] and [dim, dim].

  Args:
    p1, p2: the teacher's projections of the two views, [batch, dim]; rows are
      normalised here. No gradient goes through them.
    z1, z2: the student's predictions of the two views, [batch, dim]; rows are
      normalised here. View 1's student meets view 2's teacher.
    lambda_inverse: l = batch epsilon^2 / dim, positive; a number, or a scalar
      that may be traced. The series needs it above the spectral radius of
      z1 p2^T, which is batch at collapse: hence the authors' warm-up from 256
      to 32 (batch 1024, dim 2048).
    order: terms of the Taylor polynomial, 4 in the authors' program; None
      takes the exact determinant and is NaN where that is not positive.
  Returns:
    Scalar without a unit, at least float32.
  Raises:
    ValueError: shapes differ, not floating-point matrices, lambda_inverse is
      known and not positive, or order < 1.
  Source:
    Liu et al. 2022, https://arxiv.org/abs/2210.11464, as the authors' program
    scales it.
  """
  checks.check_positive("lambda_inverse", lambda_inverse)
  checks.check_same_shape(p1=p1, p2=p2, z1=z1, z2=z2)
  p1, p2 = jax.lax.stop_gradient((p1, p2))
  batch, dim = z1.shape
  lengths = sum(
    information.maximum_entropy_coding(
      z, p, epsilon_squared=lambda_inverse * dim / batch, order=order
    )
    for z, p in ((z1, p2), (z2, p1))
  )
  return -lambda_inverse / (batch * (batch + dim)) * lengths


def make(
  encoder,
  run,
  *,
  epsilon_squared=64.0,
  warmup_factor=8.0,
  warmup_share=0.1,
  order=4,
  momentum=0.996,
  projector=None,
  predictor=None,
) -> Objective:
  """MEC as an objective.

  lambda_inverse is batch epsilon^2 / dim, so that a config holds for any batch
  and width: 32 for the published 64, 1024 and 2048. It starts `warmup_factor`
  times larger and comes down along a line, to keep collapsed young features
  inside the radius in which the series converges.

  Args:
    encoder: a backbone.
    run: facts of the run.
    epsilon_squared: squared distortion of the coding rate, positive.
    warmup_factor: at the first step, positive.
    warmup_share: share of the run until the factor is 1; the authors' program
      takes 10 epochs of 100.
    order: Taylor terms.
    momentum: of the teacher at the first step, in [0, 1]; goes to 1 along
      half a cosine.
    projector, predictor: keywords of `heads.MLP` that differ from the paper's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range, heads of different output widths.
  """
  for name, value in (
    ("epsilon_squared", epsilon_squared),
    ("warmup_factor", warmup_factor),
  ):
    if not value > 0:
      raise ValueError(f"{name} must be positive, got {value!r}")
  if not 0 <= warmup_share <= 1:
    raise ValueError(f"warmup_share must be in [0, 1], got {warmup_share!r}")
  projector = head("projector", encoder, SIAMESE_PROJECTOR, projector)
  final = run.batch_size * epsilon_squared / projector.widths[-1]
  warmup_steps = max(warmup_share * run.total_steps, 1e-9)

  def criterion(students, targets, step):
    progress = jnp.minimum(step / warmup_steps, 1.0)
    lambda_inverse = final * (warmup_factor + (1 - warmup_factor) * progress)
    loss = mec_loss(
      *targets, *students, lambda_inverse=lambda_inverse, order=order
    )
    return loss, {"lambda_inverse": lambda_inverse}

  return two_view(
    encoder,
    run,
    criterion,
    projector=projector,
    predictor=head("predictor", encoder, SIAMESE_PREDICTOR, predictor),
    teacher=Teacher(parts.cosine_momentum(momentum, run.total_steps)),
  )
