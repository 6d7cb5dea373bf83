"""SIGTERM and SIGINT: finish the step, save, exit 143 or 130."""

import contextlib
import os
import signal
import socket
import threading


class Stopped(Exception):
  """A signal ended the run after everything new was saved.

  Attributes:
    exit_code: 128 + the signal's number (143 SIGTERM, 130 SIGINT); 0 is for
      finished runs only, so that a cluster restarts what was stopped.
  """

  def __init__(self, signum):
    super().__init__(f"stopped by {signal.Signals(signum).name}")
    self.exit_code = 128 + signum


class StopSignal:
  """What the first signal asked for; a second one ends the process at once.

  Python runs handlers between two bytecodes of the main thread, which a long
  compilation never reaches. The interpreter's wake-up socket is written by the
  C handler itself, so a thread that reads it answers at any moment.
  """

  def __init__(self):
    self._signum = None
    self._farewell = None
    self._lock = threading.Lock()

  def install(self) -> "StopSignal":
    """Takes over SIGTERM and SIGINT; main thread only."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for signum in (signal.SIGTERM, signal.SIGINT):
      signal.signal(signum, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    self._writer = writer
    threading.Thread(
      target=self._watch, args=(reader,), name="signals", daemon=True
    ).start()
    return self

  def _watch(self, reader):
    while True:
      for signum in reader.recv(16):
        with self._lock:
          again, self._signum = self._signum is not None, signum
          farewell = self._farewell
          if again or farewell is not None:
            if farewell is not None and not again:
              farewell(signum)
            # No clean-up: the main thread may be inside a compilation.
            os._exit(128 + signum)

  @property
  def requested(self) -> bool:
    """Whether a signal came."""
    return self._signum is not None

  def check(self) -> None:
    """Raises Stopped if a signal came."""
    if self._signum is not None:
      raise Stopped(self._signum)

  def raise_stopped(self) -> None:
    """Raises Stopped, also where another process was the one signalled."""
    raise Stopped(self._signum or signal.SIGTERM)

  def nothing_to_save(self, farewell):
    """Inside, a signal ends the process at once after farewell(signum).

    For preparation, compilation and evaluation, which hold no unsaved work.

    Args:
      farewell: called in another thread; writes and says what there is to say.
    Returns:
      A context manager; it raises Stopped if a signal has come before.
    """
    return self._answer_with(farewell)

  def deferred(self):
    """Inside, a signal only sets `requested`; the loop saves and stops.

    Returns:
      A context manager.
    """
    return self._answer_with(None)

  @contextlib.contextmanager
  def _answer_with(self, farewell):
    with self._lock:
      outer, self._farewell = self._farewell, farewell
    try:
      if farewell is not None:
        self.check()
      yield
    finally:
      with self._lock:
        self._farewell = outer
