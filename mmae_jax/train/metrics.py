"""What a run writes while it trains: metrics.jsonl, TensorBoard, the console.

metrics.jsonl is the record that everything else is drawn from: one JSON object
a line, each with "kind" ("start", "train", "eval", "plane", "alarm", "end") and
"step". A line is written whole and at once, so a killed process leaves at most
one torn line, which `read_metrics` ignores and the next writer cuts off.
"""

from collections.abc import Mapping
import json
import os
import sys
import time

from absl import logging
from etils import epath
import numpy as np

from mmae_jax.train import console as console_lib, lines
from mmae_jax.types import UsageError

FILE = "metrics.jsonl"


def read_metrics(workdir) -> list[dict]:
  """The records of a run, without those that a restart has superseded.

  A "start" record at step k says that training went on from k: earlier records
  beyond k describe updates that no longer exist and are dropped. Of several
  records with one kind and step the last is kept. "start" and "end" records
  all stay: they are the history of the restarts.

  Args:
    workdir: the run's folder, a path or a URL that etils.epath understands.
  Returns:
    Records in the order of the file; [] if there is none. A value that was
    not finite is None.
  """
  path = epath.Path(workdir) / FILE
  if not path.exists():
    return []
  rows = path.read_bytes().split(b"\n")
  kept: dict[tuple[str | None, int, str | None], dict] = {}
  for number, row in enumerate(rows):
    record = _parse(row)
    if record is None:
      if row.strip() and number < len(rows) - 1:
        logging.warning("%s: line %d cannot be read", path, number + 1)
      continue
    kind, step = record["kind"], record["step"]
    if kind == "start":
      for entry in [k for k in kept if k[0] is not None and k[1] > step]:
        del kept[entry]
    # History is never replaced, so its key is the line's own number; several
    # alarms may have one step.
    entry = (kind, step, record.get("alarm"))
    if kind in ("start", "end"):
      entry = (None, number, None)
    kept.pop(entry, None)
    kept[entry] = record
  return list(kept.values())


class Metrics:
  """Writes a run's records; on every process but one it does nothing.

  Use it as a context manager, call `start` once, then `train` and `evaluation`
  as they come, `end` once. Values may be Python numbers or fetched (NumPy)
  scalars; fetching from the device is the caller's business.

  Attributes:
    active: whether this process writes.
  """

  def __init__(
    self,
    workdir,
    *,
    total_steps: int,
    active: bool = True,
    tensorboard: bool = True,
    terminal: bool | None = None,
  ):
    """Opens metrics.jsonl, cutting off a line that a killed process tore.

    Args:
      workdir: the run's folder; created if it is not there.
      total_steps: the length of the run, for the progress bar.
      active: True on the process that writes (process 0).
      tensorboard: also write TensorBoard events to workdir/tensorboard.
      terminal: a progress bar (True) or plain lines (False); None asks stdout.
    Raises:
      UsageError: the folder cannot be written.
    """
    self.active = active
    if not active:
      return
    self._workdir = epath.Path(workdir)
    self._total_steps = total_steps
    try:
      self._workdir.mkdir(parents=True, exist_ok=True)
      self._lines = lines.open_lines(self._workdir / FILE)
    except OSError as error:
      raise self._unwritable(error) from error
    self._tensorboard = tensorboard
    self._events = None
    if terminal is None:
      terminal = sys.stdout.isatty()
    self._console = console_lib.make_console(total_steps, terminal=terminal)

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()

  def start(self, step: int, **header):
    """Records that training goes on from `step` and shows the progress.

    Args:
      step: updates already done, 0 for a new run.
      **header: versions, commit, devices, parameters, flops_per_step, ...
    """
    if not self.active:
      return
    header = {"total_steps": self._total_steps, **header}
    self._write("start", step, header)
    if self._tensorboard:
      self._events = _open_events(self._workdir / "tensorboard", step)
    self._console.start(step)

  def record(self, kind: str, step: int, values: Mapping, *, epoch=None):
    """Writes one record to metrics.jsonl and TensorBoard, not the console."""
    if not self.active:
      return
    if epoch is not None:
      values = {"epoch": epoch, **values}
    record = self._write(kind, step, values)
    if self._events is None:
      return
    for name, value in record.items():
      number = isinstance(value, int | float) and not isinstance(value, bool)
      if number and name not in ("step", "time"):
        self._events.add_scalar(
          f"{kind}/{name}", value, step, walltime=record["time"]
        )

  def train(self, step: int, values: Mapping, *, epoch=None):
    """Records training values and shows them (a bar, or one plain line)."""
    self.record("train", step, values, epoch=epoch)
    if self.active:
      self._console.show(step, {k: _plain(v) for k, v in values.items()})

  def evaluation(self, step: int, values: Mapping, *, epoch=None):
    """Records the values of one evaluation and prints them in one line."""
    self.record("eval", step, values, epoch=epoch)
    if self.active:
      self._lines.flush()
      self._console.show_evaluation(
        step, {k: _plain(v) for k, v in values.items()}
      )

  def progress(self, step: int):
    """Moves the bar to `step`; cheap enough to be called at every step."""
    if self.active:
      self._console.move(step)

  def say(self, text: str):
    """Prints one line without tearing the progress bar."""
    if self.active:
      self._console.say(text)

  def figures(self, step: int):
    """Puts the PNGs that the report left in workdir/figures on TensorBoard."""
    if not self.active or self._events is None:
      return
    import io

    from PIL import Image

    for path in sorted((self._workdir / "figures").glob("*.png")):
      image = np.asarray(Image.open(io.BytesIO(path.read_bytes())))[..., :3]
      self._events.add_image(path.stem, image, step, dataformats="HWC")

  def end(self, step: int, *, status: str, seconds: float):
    """Records how this process ended ("finished", "stopped", ...)."""
    if not self.active:
      return
    self._write("end", step, {"status": status, "seconds": seconds})
    self._lines.flush()
    self._console.stop()

  def close(self):
    """Closes every file; harmless when called twice."""
    if not self.active:
      return
    self._console.stop()
    if self._events is not None:
      self._events.close()
      self._events = None
    self._lines.close()

  def _write(self, kind: str, step: int, values: Mapping) -> dict:
    record = {"kind": kind, "step": int(step), "time": round(time.time(), 3)}
    record.update({name: _plain(value) for name, value in values.items()})
    text = json.dumps(record, allow_nan=False, default=str)
    try:
      self._lines.write(text.encode() + b"\n")
    except OSError as error:
      raise self._unwritable(error) from error
    return record

  def _unwritable(self, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(
      f"--workdir={self._workdir}: cannot be written ({reason})"
    )


def _parse(line: bytes) -> dict | None:
  try:
    record = json.loads(line)
  except ValueError:
    return None
  if not isinstance(record, dict) or not isinstance(record.get("step"), int):
    return None
  return record if isinstance(record.get("kind"), str) else None


def _plain(value):
  """A value that strict JSON can hold: what is not finite becomes None."""
  if value is None or isinstance(value, str | Mapping):
    return value
  array = np.asarray(value)
  if array.ndim:
    return [_plain(item) for item in array]
  if array.dtype.kind in "biuOUS":
    return array.item()
  # By way of text a float32 keeps its seven digits instead of growing to 17.
  number = float(str(array[()]))
  return number if np.isfinite(number) else None


def _open_events(path, step: int):
  import tensorboardX

  try:
    # purge_step hides what an earlier process wrote beyond the restart.
    return tensorboardX.SummaryWriter(
      os.fspath(path), purge_step=step + 1 if step else None, flush_secs=30
    )
  except (ImportError, OSError) as error:
    # gs:// needs google-cloud-storage; metrics.jsonl holds the same values.
    logging.warning("TensorBoard events are not written: %s", error)
    return None
