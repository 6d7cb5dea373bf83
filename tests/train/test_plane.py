"""The information plane of a run: when it is measured, and after the fact."""

import json
import shutil
import signal

import numpy as np
from programs import call
import pytest
import runs

from mmae_jax.train import loop
from mmae_jax.train.metrics import read_metrics

CHANGES = {
  "plane.every": 0.25,
  "plane.size": 40,
  "plane.sample_rows": 20,
  "logging.tensorboard": True,
}
STEPS = [0, 5, 10, 15, 20, 22]


@pytest.fixture(autouse=True, scope="module")
def quick():
  """Leaves evaluations and reports out, and all devices but one."""
  with pytest.MonkeyPatch.context() as patch:
    runs.on_one_device(patch)
    of = "mmae_jax.train.diagnostics.Diagnostics"
    patch.setattr(f"{of}.evaluate", lambda *a, **k: {})
    patch.setattr(f"{of}.report", lambda *a, **k: None)
    yield


def points(workdir):
  """{step: values} on record, without the times."""
  records = [r for r in read_metrics(workdir) if r["kind"] == "plane"]
  told = ("kind", "time", "seconds", "epoch", "step")
  return {
    r["step"]: {k: v for k, v in r.items() if k not in told} for r in records
  }


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  """A run with a point of the plane at each of STEPS."""
  workdir = tmp_path_factory.mktemp("measured") / "run"
  loop.run(runs.config(**CHANGES), workdir)
  return workdir


def test_what_is_written(measured):
  assert list(points(measured)) == STEPS
  record = [r for r in read_metrics(measured) if r["kind"] == "plane"][1]
  assert record["epoch"] == pytest.approx(5 / 22)
  assert record["rows"] == 40 and record["sample_rows"] == 20
  assert "effective_rank_once" in record and record["seconds"] > 0
  (events,) = (measured / "tensorboard").iterdir()
  assert b"plane/sample_mutual_information_2" in events.read_bytes()
  for step in STEPS:
    with np.load(measured / "artifacts" / f"plane-{step}.npz") as arrays:
      assert arrays["names"].tolist() == ["first_mask", "second_mask"]
      p = arrays["eigenvalues_a"]
      assert p.shape == arrays["eigenvalues_b"].shape == (8,)
    rank = points(measured)[step]["effective_rank_a"]
    assert np.exp(-np.sum(p * np.log(p + 1e-12))) == pytest.approx(rank, 1e-3)


def test_it_changes_no_bit_of_the_training(measured, tmp_path):
  loop.run(runs.config(), tmp_path)
  assert not points(tmp_path) and not list(tmp_path.glob("artifacts/plane*"))
  runs.assert_same_bits(runs.leaves(measured), runs.leaves(tmp_path))
  assert runs.losses(measured) == runs.losses(tmp_path)


def test_restarts_measure_each_step_once(measured, tmp_path, monkeypatch):
  def train(until):
    monkeypatch.setattr(
      "mmae_jax.train.distributed.Agreement.signum",
      lambda self, stop, step, *, ask: signal.SIGTERM * (step == until),
    )
    loop.run(runs.config(**CHANGES), tmp_path)

  for until in (10, 12):  # 10 is saved before it is measured
    with pytest.raises(loop.Stopped):
      train(until)
  train(None)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  kinds = [json.loads(line)["kind"] for line in lines]
  assert kinds.count("plane") == len(STEPS)
  assert points(tmp_path) == points(measured)


def test_after_the_fact(measured, tmp_path, capsys):
  folder = shutil.copytree(measured, tmp_path / "run")
  settings = ("--plane.size=40", "--plane.sample_rows=20")
  workdir = f"--workdir={folder}"
  assert call("evaluate", "information", workdir, *settings) == (0, "")
  records = [
    json.loads(line)
    for line in (folder / "evaluations.jsonl").read_text().splitlines()
  ]
  assert [r["step"] for r in records] == STEPS[1:]
  logged = points(measured)
  said = capsys.readouterr().out
  for record in records:
    assert record["kind"] == "information"
    assert (record["data"], record["split"]) == ("digits", "test")
    for name, value in logged[record["step"]].items():
      np.testing.assert_allclose(record[name], value, rtol=1e-5, atol=1e-6)
    assert f"{record['step']:>8}{record['effective_rank_a']:>10.3f}" in said
    assert (folder / f"information-{record['step']}-digits.npz").exists()

  # One checkpoint: the newest, by its step, by its folder; and a broken one.
  (folder / "checkpoints" / "5" / "digests.json").unlink()
  for arguments in (
    (workdir, "--checkpoints=last"),
    (workdir, "--checkpoints=22"),
    (f"{workdir}/checkpoints/22",),
    (workdir,),
  ):
    assert call("evaluate", "information", *arguments, *settings) == (0, "")
  lines = (folder / "evaluations.jsonl").read_text().splitlines()
  steps = [json.loads(line)["step"] for line in lines[len(records) :]]
  assert steps == [22, 22, 22, 10, 15, 20, 22]
  assert "left out:" in capsys.readouterr().out
