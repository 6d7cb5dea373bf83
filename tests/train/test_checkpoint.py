"""Unsound checkpoints, full disks, folders that are taken, states gone bad."""

import fcntl
import resource
import shutil

import jax
import numpy as np
from programs import refused
import pytest
import runs

from mmae_jax.train import checkpoint, diagnostics, digests, loop
from mmae_jax.types import UsageError


def train(workdir, **changes):
  return loop.run(runs.config(**changes), workdir)


def steps(workdir):
  return digests.steps(workdir / "checkpoints")


def quickly(patch):
  """Leaves evaluations and reports out, and all devices but one."""
  runs.on_one_device(patch)
  for name, value in (("evaluate", {}), ("report", None)):
    patch.setattr(
      diagnostics.Diagnostics, name, lambda *a, value=value, **k: value
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  quickly(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A finished run with checkpoints 5, 10, 15, 20, 22."""
  workdir = tmp_path_factory.mktemp("whole") / "run"
  with pytest.MonkeyPatch.context() as patch:
    quickly(patch)
    train(workdir)
  return workdir


def largest(folder):
  """The largest file of a checkpoint: numbers, not bookkeeping."""
  files = [p for p in folder.rglob("*") if p.is_file()]
  return max(files, key=lambda p: p.stat().st_size)


def flip(folder):
  path = largest(folder)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def truncate(folder):
  path = largest(folder)
  path.write_bytes(path.read_bytes()[:-1])


def remove(folder):
  largest(folder).unlink()


def remove_digests(folder):
  (folder / digests.FILE).unlink()


HARMS = [flip, truncate, remove, remove_digests]


@pytest.mark.parametrize("harm", HARMS, ids=lambda f: f.__name__)
def test_an_unsound_checkpoint_is_named_and_set_aside(
  harm, whole, tmp_path, capsys
):
  workdir = shutil.copytree(whole, tmp_path / "run")
  harm(workdir / "checkpoints" / "22")
  train(workdir)
  said = capsys.readouterr().out
  assert f"unsound checkpoint, set aside: {workdir}/checkpoints/22: " in said
  assert "continuing from step 20" in said
  assert (workdir / "unsound" / "22-0").is_dir()
  runs.assert_same_bits(runs.leaves(workdir), runs.leaves(whole))
  assert runs.losses(workdir) == runs.losses(whole)


def test_no_sound_checkpoint_is_one_error_and_nothing_is_deleted(
  whole, tmp_path
):
  workdir = shutil.copytree(whole, tmp_path / "run")
  for step, harm in zip(steps(workdir), [*HARMS, flip], strict=True):
    harm(workdir / "checkpoints" / str(step))
  with pytest.raises(UsageError, match="no sound checkpoint") as e:
    train(workdir)
  for step in (5, 10, 15, 20, 22):
    assert f"checkpoints/{step}: " in str(e.value)
  assert steps(workdir) == [5, 10, 15, 20, 22]
  assert not (workdir / "unsound").exists()
  with pytest.raises(UsageError, match="no sound checkpoint"):
    checkpoint.load_network(workdir)


@pytest.mark.parametrize("where", ["loss", "update"])
def test_a_state_that_is_not_finite_is_never_written(
  where, tmp_path, monkeypatch
):
  original = loop.step_lib.compile_step

  def compile_step(*args):
    step = original(*args)

    def spoilt(state, batch):
      state, values = step(state, batch)
      if number == 13:
        with jax.transfer_guard("allow"):
          if where == "loss":
            values = values | {"loss": values["loss"] * float("nan")}
          else:
            state = state.replace(
              params=jax.tree.map(lambda x: x * float("inf"), state.params)
            )
      return state, values

    class Step:
      memory_analysis = step.memory_analysis
      cost_analysis = step.cost_analysis

      def __call__(self, state, batch):
        nonlocal number
        number += 1
        return spoilt(state, batch)

    number = 0
    return Step()

  monkeypatch.setattr(loop.step_lib, "compile_step", compile_step)
  changes = {"logging.log_every_steps": 4, "checkpoint.keep": 1}
  if where == "update":  # saved in the very step that spoils it
    changes |= {"checkpoint.every_epochs": 13 / 22}
  with pytest.raises(UsageError) as e:
    train(tmp_path, **changes)
  good = "none yet" if where == "update" else f"{tmp_path}/checkpoints/10"
  assert "step 13" in str(e.value)
  assert f"last good checkpoint: {good}" in str(e.value)
  if where == "loss":
    assert "loss nan" in str(e.value) and "reconstruction" in str(e.value)
    assert steps(tmp_path) == [10]
    assert digests.fault(tmp_path / "checkpoints" / "10") is None
  else:
    assert steps(tmp_path) == []


def test_a_huge_learning_rate_ends_with_1_and_a_message(tmp_path):
  flags = runs.flags(tmp_path, **{"optimizer.base_learning_rate": 1e30})
  said = refused(*flags)
  assert "not finite" in said or "the update was not" in said
  assert "last good checkpoint: " in said
  assert "no bad state was written" in said
  for step in steps(tmp_path):
    for leaf in runs.leaves(tmp_path, step).values():
      if leaf.dtype.kind == "f":
        assert np.isfinite(leaf).all()


def test_a_full_disk_keeps_what_is_there(whole, tmp_path):
  workdir = shutil.copytree(whole, tmp_path / "run")
  for step in (10, 15, 20, 22):
    shutil.rmtree(workdir / "checkpoints" / str(step))
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  room = (workdir / "metrics.jsonl").stat().st_size + 6000
  assert largest(workdir / "checkpoints" / "5").stat().st_size > room
  resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
  try:
    with pytest.raises(UsageError) as e:
      train(workdir)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert f"{workdir}/checkpoints: the checkpoint could not be" in str(e.value)
  assert steps(workdir) == [5]
  train(workdir)
  runs.assert_same_bits(runs.leaves(workdir), runs.leaves(whole))
  names = [p.name for p in (workdir / "checkpoints").iterdir()]
  assert all(name.isdigit() for name in names), names


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  for folder in (tmp_path / "file", tmp_path / "file" / "run"):
    with pytest.raises(UsageError, match="--workdir=.*cannot be written"):
      train(folder)


def test_two_runs_in_one_folder_are_refused(tmp_path):
  with open(tmp_path / ".lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another process is running there"):
      train(tmp_path)
