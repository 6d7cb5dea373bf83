"""The metrics of the steps since the last log line, still on the device."""

import contextlib
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

# These are states of a step and not means over steps.
_LAST = ("learning_rate", "effective_weight")
_WATCHED = ("loss", "grad_norm")


def _last_good(folder, saved):
  good = f"{folder}/checkpoints/{saved}" if saved else "none yet"
  return f"last good checkpoint: {good}"


@jax.jit
def _all_finite(tree):
  floats = [
    x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)
  ]
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))


class Window:
  """Collects device scalars, fetches them once, and measures the speed.

  Waiting for the metrics of step k - 2 keeps the host at most two batches
  ahead, which makes the share of time spent waiting for data a true one.
  """

  def __init__(self, batch_size):
    self._batch_size = batch_size
    self._pending = []
    self.restart()

  def restart(self) -> None:
    """Starts the clock anew, after a pause that is not training."""
    self._since = time.monotonic()
    self._waited = 0.0
    self._steps = 0

  @contextlib.contextmanager
  def waiting(self):
    """Measures the time that the next batch takes to come.

    It counts only where the devices have run out of work meanwhile: a host
    that waits while they are still busy costs nothing.
    """
    began = time.monotonic()
    yield
    last = self._pending[-1][1]["loss"] if self._pending else None
    busy = isinstance(last, jax.Array) and not last.is_ready()
    if not busy:
      self._waited += time.monotonic() - began

  def add(self, step, metrics) -> None:
    """Takes the (device) metrics of one step."""
    self._pending.append((step, metrics))
    self._steps += 1
    if len(self._pending) > 2:
      jax.block_until_ready(self._pending[-3][1])

  def check(self, folder, saved) -> list[tuple[int, dict]]:
    """Fetches what is pending and looks for numbers that are not finite.

    Args:
      folder: of the run, for the message.
      saved: the last good checkpoint's step.
    Returns:
      [(step, {name: float})].
    Raises:
      FloatingPointError: a loss or gradient norm is not finite.
    """
    fetched = [(step, jax.device_get(m)) for step, m in self._pending]
    self._pending = fetched
    for step, values in fetched:
      if not all(math.isfinite(values[name]) for name in _WATCHED):
        told = ", ".join(f"{k} {float(v):.6g}" for k, v in values.items())
        raise FloatingPointError(
          f"step {step}: not finite ({told}); {_last_good(folder, saved)}"
        )
    return fetched

  def check_state(self, step, state, folder, saved) -> None:
    """Looks for numbers in a state that are not finite.

    The last update may have spoilt it although its loss was finite.

    Args:
      step: of the state.
      state: the TrainState, on the devices.
      folder, saved: as in `check`.
    Raises:
      FloatingPointError: the state must not be saved.
    """
    if not _all_finite(state):
      raise FloatingPointError(
        f"step {step}: the loss was finite, but the update was not;"
        f" {_last_good(folder, saved)}"
      )

  def fetch(self, folder, saved) -> dict[str, float]:
    """Means since the last call, with `images_per_second`, `data_wait`."""
    fetched = [values for _, values in self.check(folder, saved)]
    self._pending = []
    means = {
      name: fetched[-1][name]
      if name in _LAST
      else np.mean([values[name] for values in fetched])
      for name in fetched[-1]
    }
    seconds = max(time.monotonic() - self._since, 1e-9)
    means["images_per_second"] = self._steps * self._batch_size / seconds
    means["data_wait"] = self._waited / seconds
    self.restart()
    return means
