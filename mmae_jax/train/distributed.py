"""The processes of a run: joining, agreeing, and leaving together."""

import atexit
import contextlib
import json
import os
import sys
import threading
import time
import traceback

import jax
from jax.experimental import multihost_utils
import numpy as np

from mmae_jax.types import UsageError

_POLL_SECONDS = 0.3
_ASK_EVERY_SECONDS = 3.0
_peers = None


def in_cluster() -> bool:
  """Whether the environment is a cluster's that jax can read.

  Slurm with more than one task, a TPU pod slice of several hosts, or a
  coordinator named by JAX_COORDINATOR_ADDRESS.
  """
  env = os.environ
  if env.get("JAX_COORDINATOR_ADDRESS"):
    return True
  if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env:
    return True
  hosts = env.get("TPU_WORKER_HOSTNAMES", "")
  return len([h for h in hosts.split(",") if h]) > 1


def initialise(mode: str, signals=None) -> None:
  """Joins the other processes; must precede any other use of jax.

  Args:
    mode: "on", "off", or "auto" (on in a known cluster environment).
      JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID are read
      where they are set; otherwise jax detects the cluster.
    signals: an installed StopSignal, which then also hears the signals that
      came to other processes.
  Raises:
    UsageError: "on", and there is no cluster to be found.
  """
  global _peers
  if mode == "off" or (mode == "auto" and not in_cluster()):
    return
  env = os.environ
  arguments = {}
  if env.get("JAX_COORDINATOR_ADDRESS"):
    arguments["coordinator_address"] = env["JAX_COORDINATOR_ADDRESS"]
    for name, variable in (
      ("num_processes", "JAX_NUM_PROCESSES"),
      ("process_id", "JAX_PROCESS_ID"),
    ):
      if env.get(variable):
        arguments[name] = int(env[variable])
  try:
    jax.distributed.initialize(**arguments)
  except ValueError as e:
    raise UsageError(
      f"--distributed={mode}: no cluster was found ({e}); set"
      " JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or use"
      " --distributed=off"
    ) from e
  if signals is not None:
    signals.take_over()  # jax's preemption service has taken SIGTERM
    if jax.process_count() > 1 and (client := _client()) is not None:
      _peers = _Peers(client, signals)


def first(function):
  """Runs a function on process 0 alone; every process calls this.

  Args:
    function: () -> something that JSON can hold.
  Returns:
    Its result, on every process.
  Raises:
    UsageError: on every process, if the function raises one.
  """
  if jax.process_count() == 1:
    return function()
  outcome = {}
  if jax.process_index() == 0:
    try:
      outcome["result"] = function()
    except UsageError as e:
      outcome["error"] = str(e)
  data = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
  size = multihost_utils.broadcast_one_to_all(np.int32(len(data)))
  data = np.resize(data, int(size))
  outcome = json.loads(bytes(multihost_utils.broadcast_one_to_all(data)))
  if "error" in outcome:
    raise UsageError(outcome["error"])
  return outcome["result"]


class Agreement:
  """Whether and why to stop, the same on every process.

  One process knows at once. Several ask each other every few seconds and not
  at every step, since the question waits for the devices.
  """

  def __init__(self, step):
    """Args: step: updates already done."""
    self._asked = step
    self._since = time.monotonic()
    self._every = 1

  def signum(self, signals, step, *, ask) -> int:
    """The signal to stop for, after a step; 0 is to go on.

    Args:
      signals: a StopSignal.
      step: updates done; every process passes the same.
      ask: whether this step waits for the devices anyway.
    Returns:
      A signal's number.
    """
    if jax.process_count() == 1:
      return signals.signum
    if not ask and step - self._asked < self._every:
      return 0
    now = time.monotonic()
    seconds = (now - self._since) / max(step - self._asked, 1)
    heard, slowest = multihost_utils.process_allgather(
      np.asarray([signals.signum, seconds], np.float32)
    ).max(axis=0)
    self._every = max(int(_ASK_EVERY_SECONDS / max(slowest, 1e-6)), 1)
    self._asked, self._since = step, now
    return int(heard)


def fail(error) -> None:
  """Ends every process of a run of several, because one has failed.

  The others may be waiting for this one in a computation, and so may whatever
  would be closed here: the error is printed and the process ends at once.
  Returns where there is one process.

  Args:
    error: the exception.
  """
  if _peers is not None:
    _peers.fail(error)


def _client():
  # jax has no public access to the store of its coordination service. Without
  # it a signal is still agreed on in training, and a process that fails is
  # noticed when its heartbeats stop.
  try:
    from jax._src import distributed

    client = distributed.global_state.client
    return client if hasattr(client, "key_value_try_get") else None
  except (ImportError, AttributeError):
    return None


class _Peers:
  """What the processes of a run tell each other outside of computations.

  "stop": a signal came to one of them. "left": one of them has ended at once,
  so that no computation can go on; the others follow with its exit code
  instead of waiting for it.
  """

  def __init__(self, client, signals):
    self._client = client
    self._signals = signals
    self._index = jax.process_index()
    self._count = jax.process_count()
    self._closed = threading.Event()
    signals.tell = lambda signum: self._set("stop", signum)
    signals.leave = self.leave
    self._thread = threading.Thread(
      target=self._listen, name="peers", daemon=True
    )
    self._thread.start()
    atexit.register(self._close)  # runs before jax leaves the service

  def fail(self, error):
    """Prints an error and leaves with 1."""
    if isinstance(error, UsageError):
      print(f"error: {error}", file=sys.stderr, flush=True)
    else:  # perhaps only because another has left
      time.sleep(2 * _POLL_SECONDS)
      if not self._get("left"):
        traceback.print_exception(error)
        sys.stderr.flush()
    self.leave(1)

  def leave(self, code):
    """Tells the others and ends this process with an exit code."""
    self._closed.set()
    self._set("left", code)
    # Who comes second follows the first: its own error may be a consequence.
    code = self._get("left") or code
    self._set(f"heard/{self._index}", 1)
    if self._index == 0:  # the service ends with this process
      for other in range(1, self._count):
        with contextlib.suppress(jax.errors.JaxRuntimeError):
          self._client.blocking_key_value_get(_key(f"heard/{other}"), 2000)
      time.sleep(_POLL_SECONDS)
    os._exit(code)

  def _listen(self):
    heard = 0
    while not self._closed.wait(_POLL_SECONDS):
      if code := self._get("left"):
        if code == 1:
          print(
            "error: another process of this run has failed",
            file=sys.stderr,
            flush=True,
          )
        self.leave(code)
      signum = self._get("stop")
      if signum and not heard:
        heard = signum
        self._signals.hear(signum)

  def _set(self, name, value):
    # The first value stays: the service refuses a second one.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
      self._client.key_value_set(_key(name), str(int(value)))

  def _get(self, name):
    with contextlib.suppress(jax.errors.JaxRuntimeError):
      return int(self._client.key_value_try_get(_key(name)))
    return 0

  def _close(self):
    self._closed.set()
    self._thread.join()


def _key(name):
  return f"mmae_jax/{name}"
