"""MoCo v3: contrastive learning against the teacher's keys of the batch."""

import dataclasses

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.information import checks, spectra
from mmae_jax.objectives import parts
from mmae_jax.objectives.networks import Teacher, head
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective

# What the published ResNet-50 has; its ViT has three layers in the projector,
# and a plain BatchNorm behind the predictor too.
_PROJECTOR = {
  "widths": (4096, 256),
  "last_norm": "plain",
}
_PREDICTOR = {"widths": (4096, 256), "hidden_bias": False, "last_bias": False}


def moco_v3_loss(q1, q2, k1, k2, *, temperature=1.0):
  """Loss of MoCo v3.

      2 t (E(q1, k2) + E(q2, k1)),
      E(q, k) = -mean_i log(exp(<q_i, k_i> / t) / sum_j exp(<q_i, k_j> / t)),

  all rows of unit length. E is log batch less the estimate of
  `information.bounds.info_nce_cap`.

  Args:
    q1, q2: the student's predictions of the two views, [batch, dim]; rows are
      normalised here.
    k1, k2: the teacher's projections of the two views, [batch, dim]; rows are
      normalised here. No gradient goes through them.
    temperature: t, positive: 1 with a ResNet, 0.2 with a ViT.
  Returns:
    Scalar, 2 t times nats, at least float32; 4 t log batch where all cosines
    are equal.
  Raises:
    ValueError: shapes differ, not floating-point matrices, fewer than two
      rows, or temperature is not positive.
  Source:
    Chen, Xie and He 2021, https://arxiv.org/abs/2104.02057.
  """
  checks.check_positive("temperature", temperature)
  checks.check_same_shape(q1=q1, q2=q2, k1=k1, k2=k2)
  checks.check_rows("q1", q1)
  entropies = _cross_entropy(q1, k2, temperature) + _cross_entropy(
    q2, k1, temperature
  )
  return 2 * temperature * entropies


def _cross_entropy(q, k, temperature):
  """Of finding each query's key among the keys of the batch."""
  q = information.normalise_rows(q)
  k = jax.lax.stop_gradient(information.normalise_rows(k))
  # [batch, batch], a row for each query
  evidence = jax.nn.logsumexp(spectra.matmul(q, k.T) / temperature, axis=1)
  return jnp.mean(evidence - jnp.sum(q * k, axis=1) / temperature)


def make(
  encoder,
  run,
  *,
  temperature=1.0,
  momentum=0.99,
  freeze_patch_embedding=False,
  projector=None,
  predictor=None,
) -> Objective:
  """MoCo v3 as an objective.

  The momentum encoder moves before the keys are made, towards the weights
  that the step has not updated yet, with a momentum that goes from `momentum`
  to 1 along half a cosine.

  Args:
    encoder: a backbone.
    run: facts of the run.
    temperature: as in `moco_v3_loss`.
    momentum: of the first step, in [0, 1].
    freeze_patch_embedding: of a ViT, at its random initialisation.
    projector, predictor: keywords of `heads.MLP` that differ from the
      ResNet-50's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range, heads of different output widths, a
      patch embedding to freeze where there is none.
  """

  def criterion(students, targets, step):
    del step
    return moco_v3_loss(*students, *targets, temperature=temperature)

  objective = two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, _PROJECTOR, projector),
    predictor=head("predictor", encoder, _PREDICTOR, predictor),
    teacher=Teacher(
      parts.cosine_momentum(momentum, run.total_steps), before=True
    ),
  )
  if not freeze_patch_embedding:
    return objective
  if not hasattr(encoder, "patch_size"):
    raise ValueError(
      f"freeze_patch_embedding needs a ViT, got {type(encoder).__name__}"
    )
  # Neither gradient nor decay moves it.
  return dataclasses.replace(
    objective, wrap_optimizer=parts.freeze("patch_embed")
  )
