"""Keeps quiet what libraries print about errors that we tell ourselves."""

import logging
import sys
import threading

from absl import logging as absl_logging


def hush() -> None:
  """Silences what a failed or ordinary save prints besides our one line.

  orbax tells of every file and prints each error with its traceback before it
  raises it; the writes that a full disk cuts off then complain one by one that
  nobody waits for them.
  """
  absl_logging.set_verbosity(absl_logging.WARNING)
  absl_logging.get_absl_logger().addFilter(
    lambda record: "orbax" not in record.pathname
  )
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  shown = sys.excepthook

  def excepthook(kind, error, trace):
    # tensorstore's threads call back into a loop that has been left.
    elsewhere = threading.current_thread() is not threading.main_thread()
    if not (elsewhere and str(error) == "Event loop is closed"):
      shown(kind, error, trace)

  sys.excepthook = excepthook
