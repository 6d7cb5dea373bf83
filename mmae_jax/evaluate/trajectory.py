"""The information plane after the fact: every kept checkpoint of a run."""

from collections.abc import Callable, Mapping, Sequence
import re
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from mmae_jax.data import source as source_lib
from mmae_jax.evaluate import (
  command,
  encoder as encoder_lib,
  features as features_lib,
  hosts,
  information,
  overrides,
)
from mmae_jax.train import (
  begin,
  checkpoint,
  digests,
  metrics,
  state as state_lib,
)
from mmae_jax.types import TrainState, UsageError

# Columns of the table: heading, quantity.
_TABLE = (
  ("rank a", "effective_rank_a"),
  ("rank b", "effective_rank_b"),
  ("H1 a", "sample_entropy_1_a"),
  ("H1 b", "sample_entropy_1_b"),
  ("I1", "sample_mutual_information_1"),
  ("I1 feat.", "feature_mutual_information_1"),
  ("align.", "alignment"),
  ("ER bound", "er_bound"),
)


def evaluate(
  workdir: Any,
  *,
  select: Callable[..., Any],
  checkpoints: str | None = None,
  data: Mapping[str, Any] | None = None,
  settings: Mapping[str, Any] | None = None,
  say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
  """Measures the branches of a run's checkpoints; a collective operation.

  Writes for every checkpoint a line to `evaluations.jsonl` and the spectra,
  `information-<step>-<data>.npz`, in the run's folder. On the run's own data
  the numbers are those that training logged at the same step, if it did.

  Args:
    workdir: the run's folder, or one checkpoint in it.
    select: `objectives.select`, which makes the run's objective.
    checkpoints: "all", "last" (the newest sound one) or a step; None is the
      one that workdir names, or all.
    data, settings: as in `command.evaluate`; settings also "plane.size" and
      "plane.sample_rows".
    say: prints a line; called on process 0 only.
  Returns:
    The records, in the order of the steps.
  Raises:
    UsageError: no such run, checkpoint, data or setting.
  """
  writes = jax.process_index() == 0
  if not writes:
    say = lambda line: None
  run, steps = _chosen(epath.Path(workdir), checkpoints)
  mesh = state_lib.make_mesh()
  plane, records = None, []
  for step in steps:
    try:
      config, state, path = _read(run, step)
    except UsageError as error:
      if step == steps[-1] and not records:
        raise
      say(f"left out: {error}")
      continue
    config = overrides.override(config, data or {}, settings or {})
    encoder, _ = encoder_lib.build(
      config, state.params["network"], state.model_state, path=path
    )
    state = _on_mesh(state, mesh)
    if plane is None:
      train, test = source_lib.open_sources(config)
      info = begin.run_info(config, _num_examples(run, config, train))
      plane = information.Plane(
        config,
        select(config.objective, encoder, info),
        state,
        mesh=mesh,
        train_source=train,
        test_source=test,
      )
      _announce(say, run, config, plane)
    values, arrays = plane(state)
    say(_row(step, [f"{values[name]:.3f}" for _, name in _TABLE]))
    record = {
      "kind": "information",
      "time": time.time(),
      "step": step,
      "data": plane.probe.source.name,
      "split": plane.probe.source.split,
      **values,
    }
    if writes:
      name = re.sub(r"[^\w.-]", "_", record["data"]).strip("_")
      features_lib.save_npz(run / f"information-{step}-{name}.npz", **arrays)
      command.append(run / command.FILE, record)
    records.append(record)
  say(f"recorded in {run / command.FILE}")
  return records


def _num_examples(run, config, train):
  """Images that the run was trained on, whatever it is measured on."""
  starts = [r for r in metrics.read_metrics(run) if r["kind"] == "start"]
  recorded = starts[-1].get("num_examples") if starts else None
  return recorded or max(len(train), config.batch_size)


def _chosen(path, checkpoints):
  """(run, steps): what `checkpoints` means in a folder."""
  if path.name.isdigit() and (path / "network").exists():
    path, checkpoints = path.parent.parent, checkpoints or path.name
  known = digests.steps(path / "checkpoints")
  if not known:
    raise UsageError(f"{path}: not a run (no checkpoints/ with a step in it)")
  if checkpoints in (None, "all"):
    return path, known
  if checkpoints == "last":
    return path, [digests.newest_sound(path / "checkpoints")[0]]
  if checkpoints.isdigit() and int(checkpoints) in known:
    return path, [int(checkpoints)]
  raise UsageError(
    f"--checkpoints={checkpoints}: must be all, last, or the step of a kept"
    f" checkpoint: {', '.join(map(str, known))}"
  )


def _read(run, step):
  """(config, state, path): all but optimizer and probe, in NumPy."""
  config, params, model_state, step, path = checkpoint.load_network(
    run, step=step, evaluated="student"
  )
  rest = checkpoint.read_arrays(path / "rest")
  state = TrainState(
    step=np.asarray(step, np.int32),
    params={"network": params, "probe": {}},
    model_state=model_state,
    opt_state=(),
    carry=rest.get("carry") or {},
    key=rest["key"],
  )
  return config, state, path


def _on_mesh(state, mesh):
  state = jax.tree.map(lambda x: hosts.to_mesh(x, mesh, split=False), state)
  # What is on disk, and what a callback can hand out, is the raw key.
  return state.replace(key=jax.jit(jax.random.wrap_key_data)(state.key))


def _announce(say, run, config, plane):
  source = plane.probe.source
  say(f"run         {run}")
  say(f"branches    {', '.join(plane.names)} of {config.objective.name}")
  say(f"images      {len(plane.probe)} of {source.name}, {source.split}")
  say("entropies H and information I of order 1 in nats; feat.: feature side")
  say(_row("step", [heading for heading, _ in _TABLE]))


def _row(step: Any, cells: Sequence[str]) -> str:
  return f"{step:>8}" + "".join(f"{cell:>10}" for cell in cells)
