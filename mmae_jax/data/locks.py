"""One process prepares a dataset, the others wait for it."""

import contextlib
import fcntl
import os
import pathlib
import time

from absl import logging

from mmae_jax import types

_POLL_SECONDS = 0.1


@contextlib.contextmanager
def locked(path: os.PathLike | str, *, flag: str):
  """Holds an exclusive lock on a file; the system frees it if we are killed.

  A path with "://" is not on this machine and has no locks: prepare such data
  beforehand, with one process (launch/prepare_data.py).

  Args:
    path: the file to lock; made, with its folder, if absent.
    flag: the config key that decides where it lies, for messages.
  Yields:
    Nothing.
  Raises:
    UsageError: the file cannot be made there.
  """
  if "://" in os.fspath(path):
    yield
    return
  path = pathlib.Path(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a")  # noqa: SIM115 (closed below, whatever happens)
  except OSError as error:
    raise types.UsageError(
      f"{flag}={path.parent}: cannot write there ({error.strerror})"
    ) from None
  with file:
    told = False
    while not _try(file):
      if not told:
        logging.warning(
          "waiting for another process to prepare the data: %s", path
        )
        told = True
      time.sleep(_POLL_SECONDS)
    yield


def _try(file) -> bool:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True
