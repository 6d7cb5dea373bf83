"""Checkpoints: save, verify, restore onto any mesh, read the network alone.

A step is a folder `checkpoints/<step>/` with the items

    network   params and model_state of the network: all that evaluation reads
    rest      optimizer, carry, probe, key, step
    config    the resolved config
    versions  format number, library versions, commit
    digests.json   SHA-256 of every file above, written before the commit

so that a changed byte or a missing file is noticed before anything is read.
"""

import contextlib
import hashlib
import json

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from mmae_jax import config as config_lib
from mmae_jax.train import versions
from mmae_jax.types import UsageError

FORMAT = 1
_ITEMS = ("network", "rest", "config", "versions")
_DIGESTS = "digests.json"


def _files(folder):
  """All files below a folder; epath has no recursive glob."""
  for path in sorted(folder.iterdir()):
    if path.is_dir():
      yield from _files(path)
    else:
      yield path


def _file_digests(folder):
  digests = {}
  for item in _ITEMS:
    if (folder / item).is_dir():
      for path in _files(folder / item):
        name = str(path.relative_to(folder))
        digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
  return digests


def fault(folder) -> str | None:
  """What is wrong with the files of a checkpoint; None if they are sound."""
  folder = epath.Path(folder)
  recorded_path = folder / _DIGESTS
  if not recorded_path.exists():
    return f"incomplete: {_DIGESTS} is missing"
  try:
    recorded = json.loads(recorded_path.read_text())
  except ValueError:
    return f"changed: {_DIGESTS} is not JSON"
  found = _file_digests(folder)
  missing = sorted(recorded.keys() - found.keys())
  if missing:
    return f"incomplete: {missing[0]} is missing"
  changed = [name for name in sorted(recorded) if recorded[name] != found[name]]
  if changed:
    return f"changed: the bytes of {changed[0]} are not those written"
  return None


def steps(folder) -> list[int]:
  """Committed steps under `checkpoints/`, ascending, sound or not."""
  folder = epath.Path(folder)
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


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
    reason = e
    while reason.__cause__ is not None and not isinstance(reason, OSError):
      reason = reason.__cause__
    if not isinstance(reason, OSError) and not _is_full(e):
      raise
    raise UsageError(
      f"{folder}: the checkpoint could not be written ({reason}); earlier"
      " checkpoints are untouched: free some space, or choose another"
      " --workdir, and run the same command again"
    ) from e


def _is_full(error):
  # tensorstore reports a full disk as text only.
  text = str(error)
  return any(
    mark in text
    for mark in ("No space left", "RESOURCE_EXHAUSTED", "Disk quota exceeded")
  )


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
    self._folder = epath.Path(folder)
    self._saving = None
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
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
    folder = folders[0] if folders else self._folder / str(self._saving)
    (folder / _DIGESTS).write_text(json.dumps(_file_digests(folder), indent=1))

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
    """Finishes what is being written and frees the manager's threads."""
    self._manager.close()


def newest_sound(folder):
  """The newest checkpoint whose files are sound.

  Args:
    folder: `<workdir>/checkpoints`.
  Returns:
    (step, faults): step is None where there is no checkpoint at all; faults
    are lines that name the newer, unsound ones.
  Raises:
    UsageError: there are checkpoints, but none is sound; nothing is deleted.
  """
  folder = epath.Path(folder)
  faults = []
  for step in reversed(steps(folder)):
    problem = fault(folder / str(step))
    if problem is None:
      return step, faults
    faults.append(f"{folder / str(step)}: {problem}")
  if faults:
    raise UsageError(
      "no sound checkpoint is left; nothing was deleted:\n  "
      + "\n  ".join(faults)
      + "\nrestore these files, or start anew with another --workdir"
    )
  return None, faults


def set_aside(folder, newest) -> None:
  """Moves unsound checkpoints newer than `newest` to `unsound/`.

  Their numbers are needed again; nothing is deleted. Process 0 only.
  """
  folder = epath.Path(folder)
  aside = folder.parent / "unsound"
  for step in steps(folder):
    if newest is None or step > newest:
      aside.mkdir(parents=True, exist_ok=True)
      number = len(
        [p for p in aside.iterdir() if p.name.startswith(f"{step}-")]
      )
      (folder / str(step)).rename(aside / f"{step}-{number}")


def _read_arrays(folder):
  """The arrays of one item as NumPy, whatever devices wrote them."""
  checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
  tree = checkpointer.metadata(folder).item_metadata.tree
  return checkpointer.restore(
    folder,
    args=ocp.args.PyTreeRestore(
      restore_args=jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      )
    ),
  )


def load_network(path, *, step=None, evaluated="student"):
  """Reads the network of a run or of one checkpoint, and nothing else.

  Args:
    path: a run's folder, or `<run>/checkpoints/<step>`.
    step: which checkpoint of a run; the newest sound one by default.
    evaluated: "student", or "teacher" for carry["teacher"].
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
  known = steps(folder)
  if not known:
    raise UsageError(f"{path}: not a run (no checkpoints/ with a step in it)")
  if step is None:
    step, _ = newest_sound(folder)
  elif step not in known:
    raise UsageError(
      f"{path}: no checkpoint of step {step}; it has {', '.join(map(str, known))}"
    )
  folder = folder / str(step)
  problem = fault(folder)
  if problem:
    raise UsageError(f"{folder}: {problem}")
  config = config_lib.from_json((folder / "config" / "metadata").read_text())
  if evaluated == "teacher":
    tree = _read_arrays(folder / "rest")["carry"]
    if not isinstance(tree, dict) or "teacher" not in tree:
      raise UsageError(f"{folder}: this method keeps no teacher")
    tree = tree["teacher"]
  else:
    tree = _read_arrays(folder / "network")
  return config, tree["params"], tree.get("model_state") or {}, step, folder
