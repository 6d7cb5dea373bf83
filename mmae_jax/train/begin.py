"""What a run does once: facts, checks, where to start, what to announce."""

import dataclasses
import json
import os

from etils import epath
import jax

from mmae_jax.train import digests, distributed, versions
from mmae_jax.train.metrics import read_metrics
from mmae_jax.types import RunInfo, UsageError


def run_info(config, num_examples) -> RunInfo:
  """Steps and sizes of a run.

  Raises:
    UsageError: the batch is larger than the split, or there are no steps.
  """
  if config.batch_size > num_examples:
    raise UsageError(
      f"--config.batch_size={config.batch_size}: larger than the training"
      f" split ({num_examples} images)"
    )
  steps_per_epoch = num_examples // config.batch_size
  info = RunInfo(
    total_steps=0,
    steps_per_epoch=steps_per_epoch,
    num_examples=num_examples,
    batch_size=config.batch_size,
    microbatches=config.microbatches,
  )
  total_steps = info.steps(config.epochs)
  if total_steps < 1:
    raise UsageError(
      f"--config.epochs={config.epochs}: 0 steps ({steps_per_epoch} steps per"
      " epoch)"
    )
  return RunInfo(**{**vars(info), "total_steps": total_steps})


def check_views(config, objective) -> None:
  """Raises UsageError for views that the objective or the encoder cannot take.

  Those it needs have to be there in their number, others only where it takes
  them; none is larger than the global ones or cuts a patch.
  """
  views = config.views
  for name, count in objective.needs.items():
    have = views[name]["count"] if name in views else 0
    if have != count:
      raise UsageError(
        f"--config.views.{name}.count={have}: {config.objective.name} needs"
        f" {count}"
      )
  for name in views:
    have = views[name]["count"]
    if not have:
      continue
    if name not in (*objective.needs, *objective.takes):
      raise UsageError(
        f"--config.views.{name}.count={have}: {config.objective.name} has no"
        " use for such views; set it to 0"
      )
    if views[name].size > views["global"].size:
      raise UsageError(
        f"--config.views.{name}.size={views[name].size}: larger than"
        f" --config.views.global.size={views['global'].size}"
      )
    patch = config.encoder.patch_size
    if config.encoder.name == "vit" and views[name].size % patch:
      raise UsageError(
        f"--config.views.{name}.size={views[name].size}: not a multiple of"
        f" --config.encoder.patch_size={patch}"
      )


def check_evaluated(config, carry) -> None:
  """Raises UsageError if a teacher shall be evaluated where there is none."""
  if config.evaluation.network == "teacher" and "teacher" not in carry:
    raise UsageError(
      f"--config.evaluation.network=teacher: {config.objective.name} keeps no"
      " teacher; student is the one network it has"
    )


@dataclasses.dataclass(frozen=True)
class Start:
  """Where a run continues.

  Attributes:
    step: updates done; 0 is a fresh run.
    evaluated: whether the evaluation of this step is on record.
    measured: whether its point of the information plane is.
    finished: whether the run has ended here.
    notes: what to tell, line by line.
  """

  step: int
  evaluated: bool
  measured: bool
  finished: bool
  notes: list[str]


def find_start(folder) -> Start:
  """Where to continue; collective, process 0 looks.

  Unsound checkpoints that are newer are moved to `unsound/`.

  Args:
    folder: the run's folder.
  Returns:
    A Start.
  Raises:
    UsageError: no checkpoint is sound; nothing was deleted.
  """
  return Start(**distributed.first(lambda: _find_start(epath.Path(folder))))


def _find_start(folder):
  step, faults = digests.newest_sound(folder / "checkpoints")
  if faults:
    digests.set_aside(folder / "checkpoints", step)
  notes = [f"unsound checkpoint, set aside: {line}" for line in faults]
  records = read_metrics(folder) if step else []
  seen = {record["kind"] for record in records if record["step"] == step}
  ends = [r["status"] for r in records if r["kind"] == "end"]
  if step:
    notes.append(f"continuing from step {step} of {folder}")
  return {
    "step": step or 0,
    "evaluated": "eval" in seen,
    "measured": "plane" in seen,
    "finished": "end" in seen and ends[-1] == "finished",
    "notes": notes,
  }


def probe_classes(config, source) -> int:
  """Classes of the online probe; 0 leaves it out."""
  wanted = config.probe.enabled and source.num_classes > 1
  return source.num_classes if wanted else 0


def copy_rejected(folder, source) -> None:
  """Leaves the list of unreadable files, if there are any, in the run."""
  if source.rejected and jax.process_index() == 0:
    lines = [json.dumps(entry) + "\n" for entry in source.rejected]
    (epath.Path(folder) / "rejected.jsonl").write_text("".join(lines))


def refreshed(objective, state, shardings):
  """The state after the objective's work between steps."""
  # The step folds 0 and 1 into this key; see train/step.py.
  key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 2)
  carry = jax.jit(
    objective.refresh, donate_argnums=1, out_shardings=shardings.carry
  )(key, state.carry)
  return state.replace(carry=carry)


def announce(metrics, config, state, start, train_step, source) -> None:
  """Says and records what this run is, on what, and what a step costs."""
  parameters = sum(x.size for x in jax.tree.leaves(state.params["network"]))
  memory = train_step.memory_analysis()
  bytes_needed = (
    memory.argument_size_in_bytes + memory.temp_size_in_bytes if memory else 0
  )
  costs = train_step.cost_analysis() or {}
  flops = float(costs.get("flops", 0.0))
  device = jax.devices()[0]
  devices = f"{jax.device_count()} x {device.device_kind}"
  if jax.process_count() > 1:
    devices += f" in {jax.process_count()} processes"
  metrics.say(
    f"{config.name}: {parameters:,} parameters, {len(source):,} images, "
    f"{devices}; a step needs {flops:.3g} FLOPs, {bytes_needed / 2**20:,.0f}"
    f" MiB; restarts are {'' if _bit_identical() else 'not '}bit-identical"
  )
  metrics.start(
    start,
    versions=versions.libraries(),
    commit=versions.commit(),
    devices=devices,
    parameters=parameters,
    flops_per_step=flops,
    num_examples=len(source),
    memory_bytes=bytes_needed,
  )


def _bit_identical() -> bool:
  on_gpu = jax.default_backend() == "gpu"
  flag = "--xla_gpu_deterministic_ops=true"
  return not on_gpu or flag in os.environ.get("XLA_FLAGS", "")


def not_finite(error) -> UsageError:
  """The error that ends a run whose loss or gradient is not finite."""
  return UsageError(
    f"{error}; no bad state was written. Lower"
    " --config.optimizer.base_learning_rate or the objective's weight, set"
    " --config.optimizer.clip_norm, and start again in another --workdir"
  )
