"""Pieces that several objectives share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


def image_keys(key, seeds):
  """A PRNG key for every image.

  Randomness belongs to the image and not to its row: device order may permute
  the rows of a batch, and a draw keyed by the row would then change the loss.

  Args:
    key: the key of this purpose in this step.
    seeds: uint32 [batch], `views["seed"]`.
  Returns:
    [batch] keys.
  """
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, seeds)


def apply(f, views, *, microbatches=1):
  """Applies a per-image function to a batch in micro-batches, exactly.

  The parts run one after another and are recomputed in the backward pass, so
  memory is that of one part; the results are joined before any statistic is
  taken, so the loss and its gradient are those of the whole batch. Rows stay
  on their device: part j holds rows j, j + n, j + 2n, …

  Args:
    f: views -> pytree of arrays with the batch first: one row per image,
      never a mean.
    views: pytree of arrays with the batch first.
    microbatches: n, a divisor of the batch.
  Returns:
    f(views), in the order of the batch.
  """
  n = microbatches
  if n == 1:
    return f(views)

  def fold(x):
    return x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)

  def unfold(x):
    return x.swapaxes(0, 1).reshape(x.shape[0] * x.shape[1], *x.shape[2:])

  parts = jax.lax.map(jax.checkpoint(f), jax.tree.map(fold, views))
  return jax.tree.map(unfold, parts)


def with_terms(value):
  """(scalar, named terms) of a loss that may have returned the scalar alone.

  Args:
    value: what a loss function returned.
  Returns:
    A pair.
  """
  return value if isinstance(value, tuple) else (value, {})


def regularised(loss, regulariser, weight):
  """loss + weight * regulariser, and the parts for the log.

  Args:
    loss: scalar.
    regulariser: scalar.
    weight: number, not negative; it acts whole on any number of devices.
  Returns:
    (total, parts): `effective_weight` is what multiplies the gradient of the
    regulariser on the global batch.
  Raises:
    ValueError: weight is negative.
  """
  if not weight >= 0:
    raise ValueError(f"weight must not be negative, got {weight!r}")
  weighted = weight * regulariser
  return loss + weighted, {
    "regulariser": regulariser,
    "weighted_regulariser": weighted,
    "effective_weight": jnp.asarray(weight, jnp.float32),
  }


def constant_momentum(momentum):
  """The rate 1 - m of a moving average with the same momentum in every step.

  Args:
    momentum: m, in [0, 1].
  Returns:
    step -> 1 - m, for `ema`.
  Raises:
    ValueError: momentum is outside [0, 1].
  """
  _check_momentum(momentum)
  return lambda step: 1 - momentum


def cosine_momentum(base, total_steps):
  """The rate 1 - m of a moving average whose momentum grows to 1.

      1 - m_i = (1 - base) 1/2 (1 + cos(pi i/N))
              = (1 - base) sin^2(pi/2 (N - i)/N)

  The rate and not m, and the squared sine: in float32 m becomes 1 long before
  the end, and the cosine cancels.

  Args:
    base: momentum of step 0, in [0, 1].
    total_steps: N; from there on the rate is 0.
  Returns:
    step -> 1 - m, float32 (float64 where jax has it), for `ema`.
  Raises:
    ValueError: base, the `momentum` of the objectives, is outside [0, 1].
  Source:
    Grill et al. 2020 (BYOL, arXiv 2006.07733).
  """
  _check_momentum(base)

  def rate(step):
    left = (total_steps - jnp.asarray(step).astype(float)) / total_steps
    return (1 - base) * jnp.sin(0.5 * jnp.pi * jnp.clip(left, 0.0, 1.0)) ** 2

  return rate


def _check_momentum(momentum):
  if not 0 <= momentum <= 1:
    raise ValueError(f"momentum must be in [0, 1], got {momentum!r}")


def ema(average, value, rate):
  """Moves a moving average, average + rate (value - average), leaf by leaf.

  Args:
    average: pytree of floating arrays.
    value: the same structure.
    rate: scalar, 1 - momentum; of `cosine_momentum` or `constant_momentum`.
  Returns:
    The new average, at least float32: in bfloat16 a rate of 1e-3 moves
    nothing.
  """

  def move(old, new):
    dtype = jnp.promote_types(old.dtype, jnp.float32)
    old, new = old.astype(dtype), new.astype(dtype)
    return old + jnp.asarray(rate, dtype) * (new - old)

  return jax.tree.map(move, average, value)


def frozen_steps(name, epochs, run):
  """Steps of a freeze that leaves some of the run.

  Args:
    name: of the hyperparameter that holds `epochs`, for the message.
    epochs: not negative.
    run: facts of the run.
  Returns:
    The steps.
  Raises:
    ValueError: negative, or as long as the whole run.
  """
  steps = run.steps(epochs)
  if not 0 <= steps < run.total_steps:
    raise ValueError(
      f"{name} must be at least 0 and less than the run's --config.epochs, got"
      f" {epochs!r}: {steps} of {run.total_steps} steps"
    )
  return steps


class _FrozenState(NamedTuple):
  """Updates done, and the state of what is frozen."""

  step: jax.Array
  inner: optax.OptState


def frozen_until(
  optimizer: optax.GradientTransformation, step: int
) -> optax.GradientTransformation:
  """Holds parameters and moments still until a step.

  Until then neither gradient nor decay moves a parameter, and the moments stay
  as they began, as in PyTorch where a gradient is None. Only schedules go on:
  they count the steps of the run.

  Args:
    optimizer: what moves the parameters afterwards.
    step: the first that moves them.
  Returns:
    The gradient transformation.
  """

  def init(params):
    return _FrozenState(jnp.zeros((), jnp.int32), optimizer.init(params))

  def update(updates, state, params=None):
    moves = state.step >= step
    updates, inner = optimizer.update(updates, state.inner, params)
    # Of a rate or a decay: a state that does nothing but count.
    is_schedule = lambda x: getattr(x, "_fields", None) == ("count",)

    def chosen(new, old):
      return new if is_schedule(new) else jnp.where(moves, new, old)

    return jax.tree.map(
      lambda x: jnp.where(moves, x, jnp.zeros_like(x)), updates
    ), _FrozenState(
      optax.safe_increment(state.step),
      jax.tree.map(chosen, inner, state.inner, is_leaf=is_schedule),
    )

  return optax.GradientTransformation(init, update)


def freeze(name: str, *, step: int | None = None):
  """Freezes what a module's name is part of, for `Objective.wrap_optimizer`.

  Args:
    name: of a module anywhere in the network.
    step: the first step that moves it; None is never.
  Returns:
    GradientTransformation -> GradientTransformation.
  """

  def labels(params):
    return jax.tree_util.tree_map_with_path(
      lambda path, _: (
        "frozen" if name in jax.tree_util.keystr(path) else "trained"
      ),
      params,
    )

  def wrap(optimizer):
    frozen = (
      optax.set_to_zero() if step is None else frozen_until(optimizer, step)
    )
    return optax.partition({"trained": optimizer, "frozen": frozen}, labels)

  return wrap
