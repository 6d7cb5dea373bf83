"""SimSiam: one network, a predictor and a stopped gradient."""

import jax

from mmae_jax import information
from mmae_jax.objectives.networks import (
  SIAMESE_PREDICTOR,
  SIAMESE_PROJECTOR,
  head,
)
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective


def simsiam_loss(p1, p2, z1, z2):
  """Loss of SimSiam.

      -(cos(p1, z2) + cos(p2, z1)) / 2,   the mean over the batch

  Args:
    p1, p2: predictions of the two views, [batch, dim]; rows are normalised
      here.
    z1, z2: projections of the two views, [batch, dim]; rows are normalised
      here. No gradient goes through them.
  Returns:
    Scalar without a unit in [-1, 1], at least float32; -1 where each
    prediction points along the other view's projection.
  Raises:
    ValueError: shapes differ or not floating-point matrices.
  Source:
    Chen and He 2021, https://arxiv.org/abs/2011.10566.
  """
  z1, z2 = jax.lax.stop_gradient((z1, z2))
  first = information.mean_cosine(p1, z2)
  return -(first + information.mean_cosine(p2, z1)) / 2


def make(encoder, run, *, projector=None, predictor=None) -> Objective:
  """SimSiam as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    projector, predictor: keywords of `heads.MLP` that differ from the paper's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range, heads of different output widths.
  """

  def criterion(students, targets, step):
    del step
    return simsiam_loss(*students, *targets)

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, SIAMESE_PROJECTOR, projector),
    predictor=head("predictor", encoder, SIAMESE_PREDICTOR, predictor),
  )
