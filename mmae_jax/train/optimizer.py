"""From config to an optax chain: optimizer, schedule, who has which rate."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from mmae_jax.train import clipping, lars as lars_lib
from mmae_jax.types import RunInfo, UsageError

_TENSORS = {"matrices": lars_lib.is_matrix, "all": lars_lib.every_tensor}


def warmup_cosine(
  *, peak, end, warmup_steps, total_steps, start=0.0, endpoint=False, hold=1
):
  """Linear warm-up from `start`, then half a cosine down to `end`.

      start + (peak - start) s/W                      for s < W
      end + (peak - end) sin^2(pi/2 (S - s)/(S - W))  for s >= W

  The squared sine is 1/2 (1 + cos(pi (s - W)/(S - W))) without its
  cancellation near the end (relative error 2e-4 in float32).

  Args:
    peak: learning rate after the warm-up.
    end: learning rate at the last step.
    warmup_steps: W; fractions are allowed.
    total_steps: S.
    start: learning rate of step 0 of a warm-up.
    endpoint: the last step of the warm-up has the full rate, as in
      `numpy.linspace(start, peak, W)`: W - 1 stands for W, and the full rate
      again at s = W, a whole number then.
    hold: the cosine is one of floor(s / hold) hold; with the steps of an epoch
      it is constant inside an epoch. The warm-up stays one of s, or the whole
      first epoch would have the rate zero.
  Returns:
    step -> learning rate, float32 (float64 where jax has it).
  Source:
    He et al. 2022 (arXiv 2111.06377); per step, as in the authors' program.
    `endpoint`: MEC, Matrix-SSL, DINO and SwAV; `hold`: SimSiam; `start`: SwAV.
  """
  rise = max(warmup_steps - 1, 1) if endpoint else max(warmup_steps, 1e-9)

  def schedule(step):
    step = jnp.asarray(step)
    held = (step // hold * hold).astype(float)
    step = step.astype(float)
    left = (total_steps - held) / max(total_steps - warmup_steps, 1)
    cosine = jnp.sin(0.5 * jnp.pi * jnp.clip(left, 0.0, 1.0)) ** 2
    decayed = end + (peak - end) * cosine
    rising = start + (peak - start) * step / rise
    return jnp.where(step < warmup_steps, rising, decayed)

  return schedule


def _peak(config, batch_size):
  return config.base_learning_rate * batch_size / 256


def learning_rate(
  config: Mapping, run: RunInfo, *, epochs: float, first_step: int = 0
):
  """The schedule of `config.optimizer`, peak = base * batch_size / 256.

  Args:
    config: `config.optimizer`.
    run: facts of the run.
    epochs: of the whole run.
    first_step: where it begins; before, the rate is that of its first step.
  Returns:
    step -> learning rate.
  """
  endpoint = config.warmup == "linspace"
  warmup_steps = config.warmup_epochs * run.steps_per_epoch
  schedule = warmup_cosine(
    peak=_peak(config, run.batch_size),
    end=config.min_learning_rate,
    warmup_steps=run.steps(config.warmup_epochs) if endpoint else warmup_steps,
    total_steps=run.steps(epochs) - first_step,
    start=config.get("first_learning_rate", 0.0),
    endpoint=endpoint,
    hold=run.steps_per_epoch if config.schedule_per == "epoch" else 1,
  )
  if not first_step:
    return schedule
  return lambda step: schedule(jnp.maximum(step - first_step, 0))


def weight_decay(config: Mapping, total_steps: int):
  """`weight_decay`, or half a cosine from it to `final_weight_decay`.

      end + (begin - end) 1/2 (1 + cos(pi s/S))

  Args:
    config: `config.optimizer`.
    total_steps: S.
  Returns:
    A number, or step -> number.
  Source:
    Caron et al. 2021 (DINO, arXiv 2104.14294), whose decay grows.
  """
  begin, end = config.weight_decay, config.get("final_weight_decay")
  if end is None:
    return begin
  # Also upwards: the cosine of `warmup_cosine` is the same either way.
  return warmup_cosine(
    peak=begin, end=end, warmup_steps=0, total_steps=total_steps
  )


def _adamw(config, rate, decay):
  return optax.adamw(
    rate,
    b1=config.b1,
    b2=config.b2,
    eps=config.eps,
    weight_decay=decay,
    mask=_TENSORS[config.decay],
  )


def _sgd(config, rate, decay):
  return lars_lib.sgd(
    rate,
    momentum=config.momentum,
    nesterov=config.nesterov,
    weight_decay=decay,
    decay=_TENSORS[config.decay],
  )


def _lars(config, rate, decay):
  return lars_lib.lars(
    rate,
    momentum=config.momentum,
    nesterov=config.nesterov,
    trust=config.trust,
    weight_decay=decay,
    decay=_TENSORS[config.decay],
    adapt=_TENSORS[config.adapt],
    rate_inside_momentum=config.rate_inside_momentum,
    larc=config.larc,
    larc_clip=config.larc_clip,
  )


_OPTIMIZERS = {"adamw": _adamw, "sgd": _sgd, "lars": _lars}


def network_optimizer(
  config: Mapping, schedule, *, constant_rate: float, decay
) -> optax.GradientTransformation:
  """The optimizer of the network.

  Two kinds of tensors may have a rate of their own: those of the modules in
  `config.constant`, whose rate is not scheduled, and vectors (see
  `lars.is_matrix`), whose rate is multiplied by `config.vector_rate`.

  Args:
    config: `config.optimizer`.
    schedule: step -> learning rate.
    constant_rate: learning rate of the modules of `config.constant`.
    decay: a number, or a schedule; of `weight_decay`.
  Returns:
    A gradient transformation of {"network": {module: …}}, as `build` has it.
  Raises:
    UsageError: an unknown optimizer; at `init`, an unknown module.
  """
  if config.name not in _OPTIMIZERS:
    raise UsageError(
      f"--config.optimizer.name={config.name}: must be "
      + " or ".join(_OPTIMIZERS)
    )
  rates = {"scheduled": schedule}
  if config.constant:
    rates["constant"] = optax.constant_schedule(constant_rate)
  own_vectors = config.vector_rate != 1
  if own_vectors:
    rates |= {
      f"{group}_vectors": lambda step, rate=rate: (
        config.vector_rate * rate(step)
      )
      for group, rate in rates.items()
    }
  chains = {
    group: _OPTIMIZERS[config.name](config, rate, decay)
    for group, rate in rates.items()
  }
  if len(chains) == 1:
    return chains["scheduled"]

  def label(path, matrix):
    group = "constant" if path[1].key in config.constant else "scheduled"
    return f"{group}_vectors" if own_vectors and not matrix else group

  def labels(params):
    _check_modules(config.constant, params["network"])
    return jax.tree_util.tree_map_with_path(label, lars_lib.is_matrix(params))

  return optax.partition(chains, labels)


def _check_modules(names, network):
  for name in names:
    if name not in network:
      raise UsageError(
        f"--config.optimizer.constant={name}: the network has no such module;"
        f" it has {', '.join(sorted(network))}"
      )


def build(
  config: Mapping, objective, schedule, *, total_steps: int
) -> optax.GradientTransformation:
  """The optimizer of {"network", "probe"}.

  The objective may wrap its own half (to freeze parts), behind the clipping of
  the whole gradient, frozen parts included. The probe has an Adam
  of its own, so that it changes no bit of the network.

  Args:
    config: the whole config.
    objective: the Objective.
    schedule: step -> learning rate of the network.
    total_steps: of the run, for what else is scheduled.
  Returns:
    A partitioned optax transformation.
  """
  labels = lambda params: {
    half: jax.tree.map(lambda _, half=half: half, tree)
    for half, tree in params.items()
  }
  network = network_optimizer(
    config.optimizer,
    schedule,
    constant_rate=_peak(config.optimizer, config.batch_size),
    decay=weight_decay(config.optimizer, total_steps),
  )
  return optax.partition(
    {
      "network": optax.chain(
        clipping.clipping(config.optimizer), objective.wrap_optimizer(network)
      ),
      "probe": optax.adam(config.probe.learning_rate),
    },
    labels,
  )
