"""A run's folder as the report reads it: records, config, artifacts."""

from collections.abc import Mapping
import dataclasses
import io
import json
import math
import re
from typing import Any, NamedTuple

from etils import epath
import numpy as np

from mmae_jax.train import metrics


class Series(NamedTuple):
  """One quantity over training: float64 arrays, NaN where not finite."""

  steps: np.ndarray
  values: np.ndarray

  @property
  def last(self) -> float:
    """The last finite value; NaN if there is none."""
    finite = self.values[np.isfinite(self.values)]
    return float(finite[-1]) if len(finite) else float("nan")


class Session(NamedTuple):
  """One process of a run, from a start to its end or its last record."""

  step: int
  time: float
  last_step: int
  seconds: float
  status: str


@dataclasses.dataclass(frozen=True)
class Run:
  """What the section functions are given.

  Attributes:
    workdir: the run's folder.
    config: the resolved config as nested dictionaries; {} if unknown.
    records: see `mmae_jax.train.metrics.read_metrics`.
  """

  workdir: epath.Path
  config: dict
  records: list[dict]

  def of(self, kind: str) -> list[dict]:
    """The records of one kind, in order."""
    return [record for record in self.records if record["kind"] == kind]

  def names(self, kind: str) -> list[str]:
    """Names of the numeric values of one kind, in order of appearance."""
    names: dict[str, None] = {}
    for record in self.of(kind):
      for name, value in record.items():
        if _is_number(value):
          names.setdefault(name)
    return [name for name in names if name not in ("step", "time", "epoch")]

  def series(self, kind: str, name: str) -> Series:
    """One quantity; steps at which it was not recorded are left out."""
    points = [
      (record["step"], np.nan if record[name] is None else record[name])
      for record in self.of(kind)
      if name in record and (record[name] is None or _is_number(record[name]))
    ]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return Series(steps, values)

  def header(self) -> dict:
    """The newest "start" record; {} if there is none."""
    starts = self.of("start")
    return starts[-1] if starts else {}

  def get(self, *path: str, default: Any = None) -> Any:
    """A value of the config, by its keys from the outside in."""
    value: Any = self.config
    for key in path:
      if not isinstance(value, Mapping) or key not in value:
        return default
      value = value[key]
    return value

  def sessions(self) -> list[Session]:
    """The processes that have worked on this run, oldest first."""
    groups: list[list[dict]] = []
    for record in self.records:
      if record["kind"] == "start" or not groups:
        groups.append([])
      groups[-1].append(record)
    return [_session(group) for group in groups]

  def restarts(self) -> list[int]:
    """Steps from which training went on after an interruption."""
    return [session.step for session in self.sessions()[1:]]

  def artifacts(
    self, stem: str, *, most: int = 2
  ) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Of artifacts/<stem>-<step>.npz at most so many, as (step, arrays).

    First and last are among them, the others are evenly spaced. Those that a
    restart has left behind, beyond the last step, do not count.
    """
    sessions = self.sessions()
    reached = sessions[-1].last_step if sessions else math.inf
    found = []
    for path in (self.workdir / "artifacts").glob(f"{stem}-*.npz"):
      match = re.fullmatch(rf"{re.escape(stem)}-(\d+)\.npz", path.name)
      if match and int(match[1]) <= reached:
        found.append((int(match[1]), path))
    found.sort(key=lambda item: item[0])
    chosen = np.linspace(0, len(found) - 1, min(len(found), most)).round()
    return [
      (step, _load(path))
      for step, path in (found[i] for i in chosen.astype(int))
    ]

  def rejected(self) -> list[dict]:
    """Files that could not be read as images: {"file", "reason"}."""
    path = self.workdir / "rejected.jsonl"
    if not path.exists():
      return []
    entries = []
    for line in path.read_text().splitlines():
      try:
        entry = json.loads(line)
      except ValueError:
        continue
      if isinstance(entry, dict):
        entries.append(entry)
    return entries


def read_run(workdir, *, config=None) -> Run:
  """Reads a run's folder.

  Args:
    workdir: the run's folder.
    config: the resolved config (ConfigDict or dict); None reads config.json.
  Returns:
    The run; what is not there is empty.
  """
  workdir = epath.Path(workdir)
  if config is None:
    path = workdir / "config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
  elif hasattr(config, "to_dict"):
    config = config.to_dict()
  return Run(workdir, dict(config), metrics.read_metrics(workdir))


def _session(group: list[dict]) -> Session:
  first, last = group[0], group[-1]
  ended = last["kind"] == "end"
  seconds = last.get("seconds") if ended else None
  if seconds is None:
    seconds = last.get("time", 0.0) - first.get("time", 0.0)
  return Session(
    step=first["step"],
    time=first.get("time", 0.0),
    last_step=max(record["step"] for record in group),
    seconds=float(seconds),
    status=str(last.get("status", "ended")) if ended else "no end recorded",
  )


def _load(path) -> dict[str, np.ndarray]:
  with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
    return {name: file[name] for name in file.files}


def _is_number(value) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
