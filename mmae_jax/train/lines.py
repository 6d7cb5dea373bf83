"""Appends lines to a file so that a killed process harms at most the last."""

import json
import os
import time

_REMOTE_SECONDS = 30.0


def open_lines(path):
  """Opens a file for whole lines, cutting off one that was torn.

  Args:
    path: an epath.Path, local or of an object store.
  Returns:
    An object with write(line: bytes), flush() and close().
  Raises:
    OSError: the file cannot be written.
  """
  remote = "://" in os.fspath(path)
  return RemoteLines(path) if remote else LocalLines(path)


class LocalLines:
  """Appends to a local file, one unbuffered write a line."""

  def __init__(self, path):
    self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (close below)
    data = path.read_bytes()
    length = _whole(data)
    if _is_json(data[length:]):
      self._file.write(b"\n")
    elif length < len(data):
      os.ftruncate(self._file.fileno(), length)

  def write(self, line: bytes):
    while line:  # an unbuffered write may take less than all
      line = line[self._file.write(line) :]

  def flush(self):
    pass

  def close(self):
    self._file.close()


class RemoteLines:
  """Rewrites an object now and then: object stores cannot append.

  A killed process loses the lines of the last half minute.
  """

  def __init__(self, path):
    self._path = path
    data = path.read_bytes() if path.exists() else b""
    self._data = data[: _whole(data)]
    self._dirty = False
    self._written = time.monotonic()

  def write(self, line: bytes):
    self._data += line
    self._dirty = True
    if time.monotonic() - self._written > _REMOTE_SECONDS:
      self.flush()

  def flush(self):
    if self._dirty:
      self._path.write_bytes(self._data)
      self._dirty = False
      self._written = time.monotonic()

  def close(self):
    self.flush()


def _whole(data: bytes) -> int:
  """Bytes of `data` up to the end of its last whole line."""
  return data.rfind(b"\n") + 1


def _is_json(data: bytes) -> bool:
  try:
    return isinstance(json.loads(data), dict)
  except ValueError:
    return False
