"""What a run shows while it trains: a progress bar, or plain lines in a log."""

from collections.abc import Mapping
import time


def make_console(total_steps: int, *, terminal: bool):
  """A progress bar on a terminal, else one plain line per log interval.

  Args:
    total_steps: the length of the run.
    terminal: whether stdout is a terminal.
  Returns:
    An object with start(step), move(step), show(step, values),
    show_evaluation(step, values), say(text), stop().
  """
  return Bar(total_steps) if terminal else Lines(total_steps)


def duration(seconds: float) -> str:
  """Seconds as people say them: "8 s", "1 min 52 s", "26 min", "3 h 07 min"."""
  seconds = round(seconds)
  if seconds < 60:
    return f"{seconds} s"
  if seconds < 600:
    return f"{seconds // 60} min {seconds % 60:02d} s"
  minutes = round(seconds / 60)
  if minutes < 60:
    return f"{minutes} min"
  hours, minutes = divmod(minutes, 60)
  if hours < 48:
    return f"{hours} h {minutes:02d} min"
  days, hours = divmod(hours, 24)
  return f"{days} d {hours:02d} h"


def training_text(values: Mapping) -> str:
  """The values that tell at a glance how training goes."""
  parts = []
  if "images_per_second" in values:
    parts.append(f"{_number(values['images_per_second'], ',.0f')} images/s")
  if "data_wait" in values:
    parts.append(f"waiting {_number(values['data_wait'], '.0%')}")
  if "loss" in values:
    parts.append(f"loss {_number(values['loss'], '.4g')}")
  return " · ".join(parts)


def evaluation_text(values: Mapping) -> str:
  """All values of an evaluation in one line; shares as per cent."""
  parts = []
  for name, value in values.items():
    if name in ("epoch", "time") or isinstance(value, str | Mapping | list):
      continue
    form = ".1%" if name.endswith("accuracy") else ".4g"
    parts.append(f"{name.replace('_', ' ')} {_number(value, form)}")
  return " · ".join(parts)


class Lines:
  """Plain lines, for logs and pipes."""

  def __init__(self, total_steps: int):
    self._total_steps = total_steps
    self._begun = (time.monotonic(), 0)

  def start(self, step: int):
    self._begun = (time.monotonic(), step)

  def move(self, step: int):
    pass

  def show(self, step: int, values: Mapping):
    text = f"step {step}/{self._total_steps} · {training_text(values)}"
    begun, first = self._begun
    if first < step < self._total_steps:
      per_step = (time.monotonic() - begun) / (step - first)
      text += f" · {duration(per_step * (self._total_steps - step))} left"
    self.say(text)

  def show_evaluation(self, step: int, values: Mapping):
    text = evaluation_text(values)
    self.say(f"step {step}/{self._total_steps} · evaluation · {text}")

  def say(self, text: str):
    print(text, flush=True)

  def stop(self):
    pass


class Bar:
  """A rich progress bar at the bottom of the terminal."""

  def __init__(self, total_steps: int):
    from rich import progress

    self._total_steps = total_steps
    self._progress = progress.Progress(
      progress.BarColumn(bar_width=18),
      progress.MofNCompleteColumn(),
      progress.TextColumn("{task.fields[status]}", markup=False),
      progress.TimeRemainingColumn(compact=True),
      progress.TextColumn("left"),
      refresh_per_second=4,
    )
    self._task = None

  def start(self, step: int):
    self._task = self._progress.add_task(
      "", total=self._total_steps, completed=step, status=""
    )
    self._progress.start()

  def move(self, step: int):
    if self._task is not None:
      self._progress.update(self._task, completed=step)

  def show(self, step: int, values: Mapping):
    if self._task is not None:
      status = training_text(values)
      self._progress.update(self._task, completed=step, status=status)

  def show_evaluation(self, step: int, values: Mapping):
    self.say(f"step {step}: {evaluation_text(values)}")

  def say(self, text: str):
    self._progress.console.print(text, markup=False, highlight=False)

  def stop(self):
    self._progress.stop()


def _number(value, form: str) -> str:
  return "not finite" if value is None else format(value, form)
