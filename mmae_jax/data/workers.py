"""grain's worker processes: deaf to signals, and gone with their parent."""

import contextlib
import multiprocessing
from multiprocessing import connection, resource_tracker
import os
import signal
import threading

from absl import flags
import grain


@contextlib.contextmanager
def started_deaf():
  """Inside, processes that are started do not hear SIGINT and SIGTERM.

  Ctrl-C and most schedulers signal every process of a job. A worker that died
  of it would take the batches away that the training loop needs to finish its
  step and save. This process still hears: other threads take the signal.

  Yields:
    Nothing.
  """
  # A mask, unlike a handler, is inherited across fork and exec, so that there
  # is no moment at which a worker hears.
  signals = {signal.SIGINT, signal.SIGTERM}
  before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def read_ahead(dataset, count: int):
  """A dataset whose elements worker processes make.

  Args:
    dataset: a grain.IterDataset.
    count: of worker processes.
  Returns:
    A grain.IterDataset; make and begin its iterator inside `started_deaf`.
  """
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # grain's workers read absl's flags
  resource_tracker.ensure_running()  # its start would undo the mask
  return dataset.mp_prefetch(
    grain.MultiprocessingOptions(num_workers=count),
    worker_init_fn=_end_with_parent,
  )


def _end_with_parent(index, count):
  del index, count
  parent = multiprocessing.parent_process()
  if parent is None:
    return

  def watch():
    connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, name="parent", daemon=True).start()
