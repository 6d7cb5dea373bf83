"""SIGTERM and SIGINT: finish the step, save, exit 143 or 130."""

import contextlib
import os
import signal
import socket
import threading
import time

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A wrapper (srun, uv, a batch script) passes on a signal that its whole process
# group has had already: what follows this fast is the same one.
_ECHO_SECONDS = 0.3


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

  Attributes:
    tell: called with each signal that came to this process, before it is
      answered; `distributed.initialise` tells the other processes by it.
    leave: ends the process at once with an exit code.
  """

  def __init__(self):
    self.tell = lambda signum: None
    self.leave = os._exit
    self._signum = None
    self._since = 0.0
    self._farewell = None
    self._lock = threading.RLock()

  def install(self) -> "StopSignal":
    """Takes over SIGTERM and SIGINT; main thread only."""
    reader, self._writer = socket.socketpair()
    self._writer.setblocking(False)
    self.take_over()
    threading.Thread(
      target=self._watch, args=(reader,), name="signals", daemon=True
    ).start()
    # A forked child that is signalled must not write to our socket.
    os.register_at_fork(after_in_child=_forget)
    return self

  def take_over(self) -> None:
    """Sets the handlers again, after a library that has set its own."""
    for signum in _SIGNALS:
      signal.signal(signum, lambda *_: None)
    signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

  def _watch(self, reader):
    while True:
      for signum in reader.recv(16):
        if signum in _SIGNALS:
          self.tell(signum)
          self.receive(signum)

  def receive(self, signum) -> None:
    """Answers a signal that came to this process."""
    with self._lock:
      if self._signum is None:
        self._since = time.monotonic()
        self._signum = signum
        if self._farewell is not None:
          self._bid_farewell()
      elif time.monotonic() - self._since > _ECHO_SECONDS:
        self.leave(128 + signum)

  def hear(self, signum) -> None:
    """Answers a signal that came to another process of the run."""
    with self._lock:
      if self._signum is None:
        self.receive(signum)

  def _bid_farewell(self):
    try:
      self._farewell(self._signum)
    finally:
      # No clean-up: the main thread may be inside a compilation.
      self.leave(128 + self._signum)

  @property
  def requested(self) -> bool:
    """Whether a signal came."""
    return self._signum is not None

  @property
  def signum(self) -> int:
    """The signal's number; 0 if none came."""
    return self._signum or 0

  def nothing_to_save(self, farewell):
    """Inside, a signal ends the process at once after farewell(signum).

    For preparation, compilation and evaluation, which hold no unsaved work.

    Args:
      farewell: called in another thread; writes and says what there is to say.
    Returns:
      A context manager; if a signal has come before, it ends the process too.
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
      if farewell is not None and self._signum is not None:
        farewell(self._signum)
        raise Stopped(self._signum)
      yield
    finally:
      with self._lock:
        self._farewell = outer


def _forget():
  signal.set_wakeup_fd(-1)
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  signal.signal(signal.SIGINT, signal.default_int_handler)
