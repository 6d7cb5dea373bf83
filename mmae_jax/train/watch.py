"""What is done about alarms: tell; if wanted, stop and keep what is healthy."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools

from mmae_jax.train import digests, distributed
from mmae_jax.train.alarms import HARMLESS, MEASURED, Alarm, Alarms
from mmae_jax.train.metrics import read_metrics
from mmae_jax.types import UsageError

FOLDER = "unhealthy"


class Alarmed(UsageError):
  """An alarm stopped the run, as --config.on_alarm=stop asks."""


class Watch:
  """Feeds a run's alarms, records them, and stops the run where asked to.

  Process 0 alone decides, and tells the others: values that are local (the
  wait for data) or not equal to the last bit never part the processes. Every
  process calls every method.
  """

  def __init__(self, config, info, folder, metrics, checkpoints, *, step=0):
    """Args: config and info of the run; folder: of the run; metrics,
    checkpoints: of the run; step: from which it continues."""
    judged_from = max(
      info.steps(config.optimizer.warmup_epochs),
      int(config.alarms.grace * info.total_steps),
      config.alarms.grace_steps,
    )
    self._alarms = Alarms(config.alarms, judged_from=judged_from)
    self._stops = config.on_alarm == "stop"
    self._info = info
    self._folder = folder
    self._metrics = metrics
    self._checkpoints = checkpoints
    self._healthy = 0
    self._taken = step
    if step:
      self._healthy = distributed.first(lambda: self._replay(step))
    self._protect()

  def trained(self, step: int, rows: Iterable, saved: int) -> None:
    """Takes single steps; comes before they are saved.

    Args:
      step: updates done.
      rows: [(step, values)]; those that were taken before are passed over.
      saved: step of the newest checkpoint.
    Raises:
      Alarmed: the run shall stop.
    """
    new = [(at, values) for at, values in rows if at > self._taken]
    self._taken = step
    self._answer(step, functools.partial(self._alarms.trained, new), saved)

  def logged(self, step: int, values: Mapping, saved: int) -> None:
    """Takes the means of a log interval; arguments as in `trained`."""
    share = values["data_wait"]
    judge = functools.partial(self._alarms.waited, step, share)
    self._answer(step, judge, saved)

  def measured(self, step: int, values: Mapping, saved: int) -> None:
    """Takes an evaluation or a point of the information plane.

    Args:
      step: of the state.
      values: {name: number}.
      saved: step of the newest checkpoint, which is healthy if this state is.
    Raises:
      Alarmed: the run shall stop.
    """
    judge = functools.partial(self._alarms.measured, step, values)
    active = self._answer(step, judge, saved)
    if not active & set(MEASURED):
      self._healthy = saved
      self._protect()

  def _answer(
    self, step: int, judge: Callable[[], list[Alarm]], saved: int
  ) -> set[str]:
    """Tells or stops; returns the names that have not recovered."""
    alarms = judge()
    active = sorted(self._alarms.active)
    if self._stops:
      told = [[dataclasses.asdict(alarm) for alarm in alarms], active]
      told, active = distributed.first(lambda: told)
      alarms = [Alarm(**values) for values in told]
    for alarm in alarms:
      values = dataclasses.asdict(alarm)
      epoch = values.pop("step") / self._info.steps_per_epoch
      self._metrics.record("alarm", alarm.step, values, epoch=epoch)
      self._metrics.say(str(alarm))
    # At the last step there is nothing left to stop.
    stops = self._stops and step < self._info.total_steps
    for alarm in alarms:
      if stops and alarm.alarm not in HARMLESS:
        self._stop(alarm, self._healthy if alarm.alarm in MEASURED else saved)
    return set(active)

  def _stop(self, alarm: Alarm, healthy: int):
    self._checkpoints.wait()
    folder = self._folder / "checkpoints"
    kept = "there is no healthy checkpoint to keep"
    if healthy:
      distributed.first(lambda: digests.set_aside(folder, healthy, to=FOLDER))
      kept = (
        f"the last healthy checkpoint is kept: {folder / str(healthy)}"
        " (--config.init_from takes it over into another config)"
      )
    raise Alarmed(
      f"stopped by the {alarm.summary()}; {kept}; --config.on_alarm=warn"
      " continues this run as it is"
    )

  def _protect(self):
    if self._stops:
      self._checkpoints.protect(self._healthy)

  def _replay(self, step):
    """Takes over the record; the newest checkpoint that was found healthy."""
    healthy_until = 0
    for record in read_metrics(self._folder):
      if record["kind"] in ("eval", "plane") and record["step"] <= step:
        self._alarms.measured(record["step"], record)
        if not self._alarms.active:
          healthy_until = record["step"]
    if self._stops:  # what has not recovered shall stop the run
      self._alarms.forget()
    saved = digests.steps(self._folder / "checkpoints")
    return max((s for s in saved if s <= healthy_until), default=0)
