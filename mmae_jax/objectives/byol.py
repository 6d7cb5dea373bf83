"""BYOL: predictions of an average teacher's projections."""

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.information import checks
from mmae_jax.objectives import parts
from mmae_jax.objectives.networks import Teacher, head
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective

HEAD = {"widths": (4096, 256), "hidden_bias": True, "last_bias": False}


def byol_loss(p1, p2, z1, z2):
  """Loss of BYOL.

      mean_i ||p1_i - z2_i||^2 + mean_i ||p2_i - z1_i||^2,   unit rows
        = 4 - 2 cos(p1, z2) - 2 cos(p2, z1)

  Args:
    p1, p2: predictions of the two views, [batch, dim]; rows are normalised
      here.
    z1, z2: the teacher's projections of the two views, [batch, dim]; rows are
      normalised here. No gradient goes through them.
  Returns:
    Scalar without a unit in [0, 8], at least float32.
  Raises:
    ValueError: shapes differ or not floating-point matrices.
  Source:
    Grill et al. 2020, https://arxiv.org/abs/2006.07733. The authors' program
    floors the length of a row at 1e-6; here the floor is 1e-12.
  """
  checks.check_same_shape(p1=p1, p2=p2, z1=z1, z2=z2)
  return _distance(p1, z2) + _distance(p2, z1)


def _distance(prediction, target):
  """Mean squared distance of paired unit rows, to targets that stay."""
  target = jax.lax.stop_gradient(information.normalise_rows(target))
  difference = information.normalise_rows(prediction) - target
  return jnp.mean(jnp.sum(difference**2, axis=1))


def make(
  encoder, run, *, momentum=0.996, projector=None, predictor=None
) -> Objective:
  """BYOL as an objective.

  The target starts from weights of its own and follows the online network
  after each step, with a momentum that goes from `momentum` to 1 along half a
  cosine.

  Args:
    encoder: a backbone.
    run: facts of the run.
    momentum: of the first step, in [0, 1].
    projector, predictor: keywords of `heads.MLP` that differ from the paper's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range, heads of different output widths.
  """

  def criterion(students, targets, step):
    del step
    return byol_loss(*students, *targets)

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, HEAD, projector),
    predictor=head("predictor", encoder, HEAD, predictor),
    teacher=Teacher(
      parts.cosine_momentum(momentum, run.total_steps), copied=False
    ),
  )
