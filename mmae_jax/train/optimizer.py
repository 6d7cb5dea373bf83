"""From config to an optax chain: AdamW, schedules, which leaves decay."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from mmae_jax.types import RunInfo, UsageError

# Decided by name and not by rank: a torch bias is 1-D, while a Flax bias of a
# per-head projection is not, and class and mask tokens (3-D in torch) decay.
_NOT_DECAYED = ("bias", "scale")


def warmup_cosine(*, peak, end, warmup_steps, total_steps):
  """Linear warm-up from zero, then half a cosine down to `end`.

      peak s/W                                        for s < W
      end + (peak - end) sin^2(pi/2 (S - s)/(S - W))  for s >= W

  The squared sine is 1/2 (1 + cos(pi (s - W)/(S - W))) without its
  cancellation near the end (relative error 2e-4 in float32).

  Args:
    peak: learning rate after the warm-up.
    end: learning rate at the last step.
    warmup_steps: W; fractions are allowed.
    total_steps: S.
  Returns:
    step -> learning rate, float32; step 0 of a warm-up gives exactly zero.
  Source:
    He et al. 2022 (arXiv 2111.06377); per step, as in the authors' program.
  """

  def schedule(step):
    step = jnp.asarray(step, jnp.float32)
    left = (total_steps - step) / max(total_steps - warmup_steps, 1)
    cosine = jnp.sin(0.5 * jnp.pi * jnp.clip(left, 0.0, 1.0)) ** 2
    decayed = end + (peak - end) * cosine
    return jnp.where(
      step < warmup_steps, peak * step / max(warmup_steps, 1e-9), decayed
    )

  return schedule


def decay_mask(params):
  """True for the leaves that weight decay applies to: not biases or scales."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key not in _NOT_DECAYED, params
  )


def learning_rate(config: Mapping, run: RunInfo, *, epochs: float):
  """The schedule of `config.optimizer`, peak = base * batch_size / 256."""
  return warmup_cosine(
    peak=config.base_learning_rate * run.batch_size / 256,
    end=config.min_learning_rate,
    warmup_steps=config.warmup_epochs * run.steps_per_epoch,
    total_steps=run.steps(epochs),
  )


def network_optimizer(
  config: Mapping, schedule
) -> optax.GradientTransformation:
  """The optimizer of the network.

  Args:
    config: `config.optimizer`.
    schedule: step -> learning rate.
  Returns:
    An optax chain.
  Raises:
    UsageError: an unknown optimizer.
  """
  if config.name != "adamw":
    raise UsageError(f"--config.optimizer.name={config.name}: must be adamw")
  clip = (
    optax.clip_by_global_norm(config.clip_norm)
    if config.clip_norm
    else optax.identity()
  )
  return optax.chain(
    clip,
    optax.adamw(
      schedule,
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      weight_decay=config.weight_decay,
      mask=decay_mask,
    ),
  )


def build(config: Mapping, objective, schedule) -> optax.GradientTransformation:
  """The optimizer of {"network", "probe"}.

  The objective may wrap its own half (to freeze parts). The probe has an Adam
  of its own, so that it changes no bit of the network.

  Args:
    config: the whole config.
    objective: the Objective.
    schedule: step -> learning rate of the network.
  Returns:
    A partitioned optax transformation.
  """
  labels = lambda params: {
    half: jax.tree.map(lambda _, half=half: half, tree)
    for half, tree in params.items()
  }
  return optax.partition(
    {
      "network": objective.wrap_optimizer(
        network_optimizer(config.optimizer, schedule)
      ),
      "probe": optax.adam(config.probe.learning_rate),
    },
    labels,
  )
