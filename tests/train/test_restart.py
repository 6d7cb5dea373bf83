"""A run that was killed ends in the same bits as one that was not."""

import random
import shutil
import signal

import jax
import numpy as np
import pytest
import runs
import tiny

from mmae_jax.train import digests, loop, state as state_lib
from mmae_jax.train.metrics import read_metrics
from mmae_jax.types import UsageError

STEPS = 22
SAVED_EVERY = 5


def train(workdir, **changes):
  return loop.run(runs.config(**changes), workdir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing has disturbed, in a process of its own."""
  workdir = tmp_path_factory.mktemp("whole") / "run"
  code, said = runs.finish(runs.start(workdir, "blind"))
  assert code == 0, said
  return workdir


@pytest.fixture
def blind(monkeypatch):
  """Leaves evaluations and reports out."""
  monkeypatch.setattr(
    "mmae_jax.train.diagnostics.Diagnostics.evaluate", lambda *a, **k: {}
  )
  monkeypatch.setattr(
    "mmae_jax.train.diagnostics.Diagnostics.report", lambda *a, **k: None
  )


def test_sigkill_at_five_random_steps_changes_no_bit(whole, tmp_path):
  kills = sorted(random.Random(0).sample(range(2, STEPS + 1), 5))
  done = 0  # steps on disk
  for kill in kills:
    process = runs.start(tmp_path, "blind", f"kill:{kill - done}")
    code, said = runs.finish(process)
    assert code == -signal.SIGKILL, said
    saved = digests.steps(tmp_path / "checkpoints")
    done = saved[-1] if saved else 0
    # The last save may have been in flight, and is made again then.
    assert kill - done <= 2 * SAVED_EVERY
  code, said = runs.finish(runs.start(tmp_path, "blind"))
  assert code == 0, said
  runs.assert_same_bits(runs.leaves(tmp_path), runs.leaves(whole))
  losses = runs.losses(tmp_path)
  assert losses == runs.losses(whole)
  assert sorted(losses) == list(range(1, STEPS + 1))
  starts = [r for r in read_metrics(tmp_path) if r["kind"] == "start"]
  assert len(starts) == 6
  litter = [p.name for p in (tmp_path / "checkpoints").iterdir()]
  assert all(name.isdigit() for name in litter), litter


def test_a_finished_run_does_nothing(whole, tmp_path, monkeypatch):
  workdir = shutil.copytree(whole, tmp_path / "run")
  monkeypatch.setattr(
    "mmae_jax.train.step.compile_step", lambda *a: pytest.fail("compiles")
  )
  before = (workdir / "metrics.jsonl").read_bytes()
  state = train(workdir)
  assert int(state.step) == STEPS
  assert (workdir / "metrics.jsonl").read_bytes() == before


def without_the_last_steps(workdir, copy):
  """A copy of a run as if it had been killed before its last checkpoint."""
  shutil.copytree(workdir, copy)
  last = digests.steps(copy / "checkpoints")[-1]
  shutil.rmtree(copy / "checkpoints" / str(last))
  return copy


def test_other_numbers_of_devices_continue(tmp_path, monkeypatch, blind):
  monkeypatch.setattr(state_lib, "_FSDP_MIN_SIZE", 64)
  make_mesh = state_lib.make_mesh
  last = 9

  def train_on(devices, fsdp, workdir, until=last + 1):
    """Trains on some devices, to the end or until it is stopped."""
    monkeypatch.setattr(
      state_lib,
      "make_mesh",
      lambda **mesh: make_mesh(**mesh, devices=jax.devices()[:devices]),
    )
    monkeypatch.setattr(
      "mmae_jax.train.distributed.Agreement.signum",
      lambda self, stop, step, *, ask: signal.SIGTERM * (step == until),
    )
    changes = {"mesh.fsdp": fsdp, "epochs": last / STEPS}
    if until <= last:
      with pytest.raises(loop.Stopped):
        train(workdir, **changes)
      return None
    return train(workdir, **changes)

  one = tmp_path / "one"
  state = train_on(8, 2, one)
  specs = {str(x.sharding.spec) for x in jax.tree.leaves(state.params)}
  assert any("fsdp" in spec for spec in specs)
  other = without_the_last_steps(one, tmp_path / "other")
  train_on(1, 1, other, until=7)
  train_on(8, 2, other)
  expected, got = runs.losses(one), runs.losses(other)
  assert sorted(got) == sorted(expected)
  np.testing.assert_allclose(
    [got[i] for i in sorted(got)],
    [expected[i] for i in sorted(expected)],
    rtol=2e-5,
  )
  same = without_the_last_steps(one, tmp_path / "same")
  train_on(8, 2, same)
  runs.assert_same_bits(runs.leaves(same), runs.leaves(one))


@pytest.mark.slow
def test_stops_around_a_clustering_change_no_bit(tmp_path, monkeypatch, blind):
  """DeepCluster: before, with and after the step that makes the clusters."""
  runs.on_one_device(monkeypatch)
  config = tiny.step_config("deepcluster")
  config.logging.update(log_every_steps=1, tensorboard=False)
  config.plane.every = 0.0

  def train(workdir, until=None):
    monkeypatch.setattr(
      "mmae_jax.train.distributed.Agreement.signum",
      lambda self, stop, step, *, ask: signal.SIGTERM * (step == until),
    )
    loop.run(config, workdir)

  train(tmp_path / "one")
  for until in (STEPS - 1, STEPS, STEPS + 3):  # an epoch has STEPS
    with pytest.raises(loop.Stopped):
      train(tmp_path / "other", until)
  train(tmp_path / "other")
  expected, got = (runs.leaves(tmp_path / name) for name in ("one", "other"))
  runs.assert_same_bits(got, expected)
  assert any("assignments" in name for name in got)
  assert runs.losses(tmp_path / "other") == runs.losses(tmp_path / "one")


def test_another_config_is_refused_and_outside_keys_may_change(whole, tmp_path):
  workdir = shutil.copytree(whole, tmp_path / "run")
  before = runs.leaves(workdir)
  with pytest.raises(UsageError) as e:
    train(workdir, **{"seed": 1, "encoder.depth": 2})
  for said in ("seed: 0 -> 1", "encoder.depth: 1 -> 2", "--workdir"):
    assert said in str(e.value)
  assert "batch_size" not in str(e.value)
  train(
    workdir,
    **{
      "logging.log_every_steps": 7,
      "checkpoint.keep": 2,
      "data.threads": 2,
      "mesh.fsdp": 2,
      "encoder.remat": True,
      "microbatches": 2,
      "evaluation.knn.k": 5,
    },
  )
  runs.assert_same_bits(runs.leaves(workdir), before)


def test_init_from_takes_what_fits(whole, tmp_path, blind, capsys, monkeypatch):
  learned = runs.leaves(whole)
  monkeypatch.setattr(
    "mmae_jax.train.distributed.Agreement.signum",
    lambda self, stop, step, *, ask: signal.SIGTERM,
  )

  def first_weights(name, **changes):
    """Weights after one step whose learning rate is zero."""
    with pytest.raises(loop.Stopped):
      train(tmp_path / name, init_from=str(whole), **changes)
    got = runs.leaves(tmp_path / name)
    return {k: v for k, v in got.items() if "'params'" in k}

  both = first_weights("both")
  assert "weights of decoder, encoder taken from" in capsys.readouterr().out
  runs.assert_same_bits(both, {k: learned[k] for k in both})

  encoder = first_weights("encoder", **{"objective.decoder_width": 16})
  assert "weights of encoder taken from" in capsys.readouterr().out
  for name, leaf in encoder.items():
    if "'encoder'" in name:
      np.testing.assert_array_equal(leaf, learned[name], err_msg=name)

  with pytest.raises(UsageError, match="other shapes than --config.encoder"):
    train(tmp_path / "no", init_from=str(whole), **{"encoder.width": 16})
  with pytest.raises(UsageError, match="not a run"):
    train(tmp_path / "none", init_from=str(tmp_path / "nowhere"))
