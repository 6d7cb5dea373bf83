"""SwAV+ER: SwAV's networks with an entropy in the place of Sinkhorn's codes.

An extension of ours: the paper reads SwAV through the bound and does not train
it so.
"""

import functools

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra
from mmae_jax.objectives import er, multi_crop
from mmae_jax.objectives.swav import prototypical
from mmae_jax.types import Objective


def swav_er_loss(
  scores,
  *,
  temperature=0.1,
  target_temperature=0.05,
  entropy_scope=None,
  entropy_views="global",
):
  """Negative ER bound of distributions over prototypes.

      -mean over the pairs (t, s), s not t, mean_i sum_k p_itk log q_isk
        - H(mean_i q_i),
      p = softmax(scores_t / target_temperature),
      q = softmax(scores / temperature)

  Args:
    scores: of all views, [batch, views, prototypes], global ones first.
    temperature: positive.
    target_temperature: of the two global views as targets, without a gradient;
      positive. SwAV's epsilon, which sharpens.
    entropy_scope: None for the global batch, or groups of so many images.
    entropy_views: "global", the first two views, or "all".
  Returns:
    (scalar, terms), see `er.of_categories`; nats, at least -log prototypes.
  Raises:
    ValueError: not [batch, views, prototypes], a temperature is not positive,
      as `er.of_categories`.
  Source:
    Ours, after Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907.
  """
  multi_crop.check_views(scores=scores)
  checks.check_positive("temperature", temperature)
  checks.check_positive("target_temperature", target_temperature)
  scores = spectra.widen(scores)
  targets = jax.nn.softmax(
    jax.lax.stop_gradient(scores[:, : multi_crop.GLOBALS]) / target_temperature
  )
  logits = scores / temperature
  return er.of_categories(
    multi_crop.across_views(targets, jax.nn.log_softmax(logits)),
    logits,
    entropy_scope=entropy_scope,
    entropy_views=entropy_views,
  )


def make(
  encoder,
  run,
  *,
  temperature=0.1,
  target_temperature=0.05,
  entropy_scope=None,
  entropy_views="global",
  **hyperparameters,
) -> Objective:
  """SwAV+ER as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    temperature, target_temperature: as in `swav_er_loss`.
    entropy_scope, entropy_views: the same.
    **hyperparameters: of `swav.prototypical`.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """
  pair_loss = functools.partial(
    swav_er_loss,
    temperature=temperature,
    target_temperature=target_temperature,
    entropy_scope=entropy_scope,
    entropy_views=entropy_views,
  )
  # Traced once here: bad values are refused before anything is compiled.
  jax.eval_shape(
    pair_loss, jax.ShapeDtypeStruct((run.batch_size, 2, 2), jnp.float32)
  )

  def criterion(embedding, vectors, carry, step):
    del vectors, step
    return *pair_loss(embedding.scores), carry

  return prototypical(
    encoder,
    run,
    criterion,
    temperature=temperature,
    target_temperature=target_temperature,
    **hyperparameters,
  )
