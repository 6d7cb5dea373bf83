"""A run's folder: its name, its lock, and the config that it belongs to."""

import fcntl
import os

from etils import epath

from mmae_jax import config as config_lib
from mmae_jax.train import distributed
from mmae_jax.types import UsageError


def default_workdir(config) -> str:
  """runs/<config name>-<8 hex of what the config computes>.

  The same command continues its run; another config gets its own folder.
  """
  return f"runs/{config.name}-{config_lib.digest(config)}"


def holds_work(workdir) -> bool:
  """Whether a run has come as far as its first record or checkpoint.

  Args:
    workdir: the run's folder. Of language models (language/run.py) its cells
      are looked at, too.
  Returns:
    False where a start was refused, which leaves only its config.
  """
  cells = epath.Path(workdir) / "cells"
  inner = cells.iterdir() if cells.exists() else ()
  return any(map(_has_begun, (epath.Path(workdir), *inner)))


def _has_begun(folder):
  records, saved = folder / "metrics.jsonl", folder / "checkpoints"
  return (
    (records.exists() and records.stat().length > 0)
    or (saved.exists() and any(saved.iterdir()))
    or (folder / "result.json").exists()
  )


class Workdir:
  """A run's folder, held by one run at a time.

  Attributes:
    path: an epath.Path.
  """

  def __init__(self, path, config):
    """Claims a folder for a config.

    Args:
      path: the folder; created if it is not there.
      config: the resolved config.
    Raises:
      UsageError: the folder cannot be written, another process runs in it, or
        it belongs to a run with another config.
    """
    self.path = epath.Path(path)
    self._lock = None
    try:
      distributed.first(lambda: self._open(config))
    except UsageError:
      self.close()
      raise

  def _open(self, config):
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      if "://" not in os.fspath(self.path):
        self._acquire()
      self._claim(config)
    except OSError as e:
      raise UsageError(
        f"--workdir={self.path}: cannot be written ({e.strerror or e})"
      ) from e

  def _acquire(self):
    # The lock goes with the process, however it ends.
    self._lock = open(self.path / ".lock", "w")  # noqa: SIM115
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise UsageError(
        f"--workdir={self.path}: another process is running there"
      ) from e

  def _claim(self, config):
    recorded = self.path / "config.json"
    if recorded.exists():
      try:
        old = config_lib.from_json(recorded.read_text())
      except (ValueError, TypeError) as e:
        raise UsageError(
          f"--workdir={self.path}: config.json is not readable ({e});"
          " choose another --workdir"
        ) from e
      differing = config_lib.differing_keys(old, config)
      # A start that was refused has left its config and nothing else.
      if differing and holds_work(self.path):
        raise UsageError(
          f"--workdir={self.path} belongs to a run with another config:\n  "
          + "\n  ".join(differing)
          + "\nleave --workdir out (each config then gets its own folder), name"
          " another one, or set these keys back to continue that run"
        )
    partial = self.path / "config.json.partial"
    partial.write_text(config_lib.to_json(config))
    partial.replace(recorded)

  def close(self) -> None:
    """Lets another process run in the folder."""
    if self._lock is not None:
      self._lock.close()
      self._lock = None
