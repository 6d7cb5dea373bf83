"""Checkpoints: save, verify, restore onto any mesh, read the network alone.

A step is a folder `checkpoints/<step>/` with the items

    network   params and model_state of the network: all that evaluation reads
    rest      optimizer, carry, probe, key, step
    config    the resolved config
    versions  format number, library versions, commit
    digests.json   SHA-256 of every file above; see digests.py
"""

import contextlib
import json
import os

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from mmae_jax import config as config_lib
from mmae_jax.train import digests, versions
from mmae_jax.types import UsageError

FORMAT = 1


def split(state, key):
  """(network, rest): the two array items of a TrainState.

  Args:
    state: a TrainState of arrays or of shardings.
    key: the same of the raw key data (a typed key has no file format).
  Returns:
    Two dictionaries.
  """
  network = {
    "params": state.params["network"],
    "model_state": state.model_state,
  }
  rest = {
    "opt_state": state.opt_state,
    "carry": state.carry,
    "probe": state.params["probe"],
    "key": key,
    "step": state.step,
  }
  return network, rest


@contextlib.contextmanager
def _named_failure(folder):
  try:
    yield
  except UsageError:
    raise
  except Exception as e:  # orbax wraps what the file system said
    cause = e
    while cause.__cause__ is not None and not isinstance(cause, OSError):
      cause = cause.__cause__
    reason = cause.strerror if isinstance(cause, OSError) else _reason(str(e))
    if reason is None:
      raise
    raise UsageError(
      f"{folder}: the checkpoint could not be written ({reason}); earlier"
      " checkpoints are untouched: free some space, or choose another"
      " --workdir, and run the same command again"
    ) from e


def _reason(text):
  # tensorstore reports what the file system said as text only.
  for reason in (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Read-only file system",
    "Permission denied",
    "Input/output error",
  ):
    if reason in text:
      return reason
  failed = "RESOURCE_EXHAUSTED" in text or "Error writing" in text
  return text.splitlines()[0] if failed else None


def join(state, network, rest):
  """The inverse of `split`; `state` lends its structure."""
  return state.replace(
    step=rest["step"],
    params={"network": network["params"], "probe": rest["probe"]},
    model_state=network["model_state"],
    opt_state=rest["opt_state"],
    carry=rest["carry"],
    key=jax.random.wrap_key_data(rest["key"]),
  )


class Checkpoints:
  """The checkpoints of one run; every process calls every method."""

  def __init__(self, folder, *, keep):
    """Args: folder: `<workdir>/checkpoints`; keep: how many stay on disk."""
    self._folder = _absolute(folder)
    self._saving = None
    self._stay = policies.AnyPreservationPolicy([policies.LatestN(n=keep)])
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._stay,
        cleanup_tmp_directories=True,  # of a killed save
        enable_async_checkpointing=True,
        async_options=ocp.AsyncOptions(
          post_finalization_callback=self._write_digests
        ),
      ),
    )

  def _write_digests(self):
    # Called before the temporary folder gets its final name, so the digests
    # are part of the commit: a killed save leaves no step without them.
    if jax.process_index() != 0:
      return
    folders = list(self._folder.glob(f"{self._saving}.*-tmp*"))
    digests.write(folders[0] if folders else self._folder / str(self._saving))

  def save(self, state, config, step) -> None:
    """Starts writing; the previous save is finished first.

    Args:
      state: the TrainState; its arrays may be donated when this returns.
      config: the resolved config.
      step: `state.step` as a Python number.
    Raises:
      UsageError: the previous save, or this one, could not be written (disk
        full, no permission); earlier checkpoints are untouched.
    """
    network, rest = split(state, jax.random.key_data(state.key))
    with _named_failure(self._folder):
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
      self._saving = step
      self._manager.save(
        step,
        args=ocp.args.Composite(
          network=ocp.args.StandardSave(network),
          rest=ocp.args.StandardSave(rest),
          config=ocp.args.JsonSave(json.loads(config_lib.to_json(config))),
          versions=ocp.args.JsonSave(
            {
              "format": FORMAT,
              **versions.libraries(),
              "commit": versions.commit(),
            }
          ),
        ),
      )

  def protect(self, step) -> None:
    """Keeps one step more, however old, instead of the one named before."""
    self._stay.policies[1:] = [policies.CustomSteps(steps=[step])]

  def wait(self) -> None:
    """Blocks until the last save is committed; raises as `save` does."""
    with _named_failure(self._folder):
      self._manager.wait_until_finished()
      self._manager.check_for_errors()

  def restore(self, step, state, shardings):
    """The TrainState of a step on the current mesh.

    Args:
      step: a step of `steps`.
      state: a fresh state; lends structure, shapes and types.
      shardings: where the leaves shall live.
    Returns:
      The restored TrainState.
    Raises:
      UsageError: the checkpoint is that of another architecture.
    """
    abstract = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      split(state, jax.random.key_data(state.key)),
      split(shardings, shardings.key),
    )
    try:
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          network=ocp.args.StandardRestore(abstract[0]),
          rest=ocp.args.StandardRestore(abstract[1]),
        ),
      )
    except (ValueError, KeyError, TypeError) as e:
      raise UsageError(
        f"{self._folder / str(step)}: the checkpoint does not fit this config"
        f" (another architecture or objective?): {str(e).splitlines()[0]}"
      ) from e
    return join(state, restored["network"], restored["rest"])

  def close(self) -> None:
    """Finishes what is being written and frees the manager's threads.

    Raises nothing: `wait` tells whether a save has failed.
    """
    with contextlib.suppress(Exception):
      self._manager.close()
    if jax.process_index() == 0:
      for unfinished in self._folder.glob("*.orbax-checkpoint-tmp*"):
        with contextlib.suppress(OSError):  # of a save that failed
          unfinished.rmtree()


def _absolute(folder):
  """orbax takes absolute paths only; gs://... is one."""
  folder = os.fspath(folder)
  remote = "://" in folder
  return epath.Path(folder if remote else os.path.abspath(folder))


def read_arrays(folder):
  """The arrays of one item as NumPy, whatever devices wrote them."""
  folder = _absolute(folder)
  # Not ocp.Checkpointer: it warns that a single item is no whole checkpoint.
  handler = ocp.PyTreeCheckpointHandler()
  tree = handler.metadata(folder).tree
  return handler.restore(
    folder,
    args=ocp.args.PyTreeRestore(
      restore_args=jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      )
    ),
  )


def load_network(path, *, step=None, evaluated=None):
  """Reads the network of a run or of one checkpoint, and nothing else.

  Args:
    path: a run's folder, or `<run>/checkpoints/<step>`.
    step: which checkpoint of a run; the newest sound one by default.
    evaluated: "student", "teacher" for carry["teacher"], or None for what
      `config.evaluation.network` says.
  Returns:
    (config, params, model_state, step, path): a ConfigDict, two trees of
    NumPy arrays, the step and the checkpoint's folder.
  Raises:
    UsageError: there is no such run, step or teacher, or the files changed.
  """
  path = epath.Path(path)
  if path.name.isdigit() and (path / "network").exists():
    path, step = path.parent.parent, int(path.name)
  folder = path / "checkpoints"
  known = digests.steps(folder)
  if not known:
    raise UsageError(f"{path}: not a run (no checkpoints/ with a step in it)")
  if step is None:
    step, _ = digests.newest_sound(folder)
  elif step not in known:
    there = ", ".join(map(str, known))
    raise UsageError(f"{path}: no checkpoint of step {step}; it has {there}")
  folder = folder / str(step)
  if problem := digests.fault(folder):
    raise UsageError(f"{folder}: {problem}")
  config = config_lib.from_json((folder / "config" / "metadata").read_text())
  if (evaluated or config.evaluation.get("network")) == "teacher":
    tree = read_arrays(folder / "rest")["carry"]
    if not isinstance(tree, dict) or "teacher" not in tree:
      raise UsageError(f"{folder}: this method keeps no teacher")
    tree = tree["teacher"]
  else:
    tree = read_arrays(folder / "network")
  return config, tree["params"], tree.get("model_state") or {}, step, folder
