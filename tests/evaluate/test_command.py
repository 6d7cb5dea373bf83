"""launch/evaluate.py and what stands behind it."""

import hashlib
import importlib.util
import json
import shutil

import numpy as np
from PIL import Image
import pytest

from mmae_jax import checks, config as config_lib
from mmae_jax.evaluate import command
from mmae_jax.types import UsageError


@pytest.fixture
def folder(run, tmp_path):
  """A copy of the run, since evaluations leave files in it."""
  return shutil.copytree(run.folder, tmp_path / "run")


def _digests(folder):
  return {
    path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.rglob("*")
    if path.is_file() and path.name != command.FILE
  }


def _launch(root, monkeypatch, *arguments):
  path = root / "launch" / "evaluate.py"
  spec = importlib.util.spec_from_file_location("launch_evaluate", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  monkeypatch.setattr("sys.argv", ["evaluate.py", *map(str, arguments)])
  module.main()


def _pictures(folder, classes, each=6):
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    for name in classes:
      place = folder / split / name
      place.mkdir(parents=True)
      for i in range(each):
        pixels = rng.integers(0, 256, (10, 14, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.png")
  return folder


def test_knn_and_logistic(folder, root, monkeypatch, capsys):
  before = _digests(folder)
  workdir = f"--workdir={folder}"
  _launch(root, monkeypatch, "knn", workdir, "--knn.k=5")
  _launch(root, monkeypatch, "linear", workdir, "--pool=mean")
  out = capsys.readouterr().out
  assert "digits: 1437 training and 360 test images, 10 classes" in out
  assert "step 7, student, mae" in out and "k 5, temperature 0.07" in out
  lines = (folder / command.FILE).read_text().splitlines()
  first, second = map(json.loads, lines)
  assert first["kind"] == "knn" and first["k"] == 5 and first["pool"] == "auto"
  assert second["form"] == "logistic" and second["pool"] == "mean"
  assert f"{second['accuracy']:.4f}" in out
  assert first["accuracy"] > 0.3 and second["accuracy"] > 0.5
  assert _digests(folder) == before  # nothing is written into the state


def test_probe(folder, capsys):
  record = command.evaluate(
    "linear",
    folder,
    settings={
      "linear.form": "probe",
      "linear.optimizer": "sgd",
      "linear.epochs": 2,
      "linear.batch_size": 240,
    },
  )
  assert record["form"] == "probe" and record["epochs"] == 2
  assert 0 <= record["accuracy"] <= record["best_accuracy"] <= 1
  assert "epoch     2  loss" in capsys.readouterr().out


def test_features(folder, tmp_path):
  record = command.evaluate("features", folder / "checkpoints" / "7")
  assert record["path"] == str(folder / "features-7-digits.npz")
  arrays = np.load(record["path"])
  shapes = {name: arrays[name].shape for name in arrays}
  assert shapes == {
    "train": (1437, 16),
    "train_labels": (1437,),
    "test": (360, 16),
    "test_labels": (360,),
  }
  assert record["effective_rank"] >= 1


def test_own_images(folder, tmp_path):
  images = _pictures(tmp_path / "images", ["a", "b"])
  data = {"folder": str(images), "dir": str(tmp_path / "tfds")}
  record = command.evaluate("knn", folder, data=data)
  assert record["data"] == str(images)
  out = tmp_path / "out.npz"
  command.evaluate("features", folder, data=data, out=str(out))
  assert np.load(out)["train"].shape == (12, 16)


def test_labels_that_are_not_there(folder, tmp_path):
  flat = tmp_path / "flat"
  _pictures(tmp_path / "images", ["a"], each=30)
  shutil.copytree(tmp_path / "images" / "train" / "a", flat)
  for place, reason in (
    (flat, "no labels"),
    (tmp_path / "images", "one class"),
  ):
    data = {"folder": str(place), "dir": str(tmp_path / "tfds")}
    for kind in ("knn", "linear"):
      with pytest.raises(UsageError, match=rf"{kind} needs labels.*{reason}"):
        command.evaluate(kind, folder, data=data)
    command.evaluate("features", folder, data=data)


def test_errors(folder, tmp_path, root, monkeypatch):
  evaluate = command.evaluate
  with pytest.raises(UsageError, match="best: unknown evaluation"):
    evaluate("best", folder)
  with pytest.raises(UsageError, match="one of them"):
    evaluate("knn", folder, data={"folder": "/x", "name": "digits"})
  with pytest.raises(UsageError, match=r"linear\.epochs"):
    evaluate("linear", folder, settings={"linear.epochs": "many"})
  with pytest.raises(UsageError, match="keeps no teacher"):
    evaluate("knn", folder, evaluated="teacher")
  with pytest.raises(
    SystemExit, match=rf"^error: --workdir={tmp_path}: not a run"
  ):
    _launch(root, monkeypatch, "knn", f"--workdir={tmp_path}")


def test_a_run_of_a_version_without_teachers_to_evaluate():
  settings = config_lib.base().evaluation
  del settings["network"]
  checks.check_evaluation(settings)
  settings.network = "both"
  with pytest.raises(UsageError, match="evaluation.network=both"):
    checks.check_evaluation(settings)
