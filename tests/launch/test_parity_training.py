"""Training here and in PyTorch, from equal weights, views and noise."""

import importlib
import json

import jax
import pytest
import tiny

from mmae_jax.types import UsageError

pytest.importorskip("torch")

STEPS = 5
METHODS = ("mae", "umae", "mmae", "simclr", "matrix_ssl")


@pytest.fixture
def comparison(root, monkeypatch):
  """The suite `training` of launch/parity.py."""
  monkeypatch.syspath_prepend(str(root / "launch"))
  return importlib.import_module("parity_suites.training")


def shrunk(method):
  """The method's config on the digits, with the smallest networks.

  All optimizers have their turn; the two networks of views keep AdamW, one
  with decay of matrices alone and one with decay of all tensors.
  """
  config = tiny.shrink(tiny.load_config(method))
  config.batch_size = 32
  config.optimizer.warmup_epochs = 0.05  # the cosine begins in the third step
  config.probe.enabled = False
  if method in ("umae", "mmae"):
    config.optimizer.name = "sgd" if method == "umae" else "lars"
    config.optimizer.base_learning_rate = 1.0
  return config


@pytest.mark.parametrize("method", METHODS)
def test_first_steps_in_float64(comparison, method):
  worst = comparison.check_in_float64(shrunk(method), steps=STEPS)
  assert worst.pop("steps") == STEPS
  assert max(worst.values()) < comparison.WIDE_TOLERANCE, worst


def test_another_program_is_told_from_ours(comparison, monkeypatch):
  """A weight decay that is a hundredth larger is seen in five steps."""
  from torch_reference import optimizers

  build = optimizers.build

  def other(model, settings):
    decay = settings["weight_decay"] * 1.01
    return build(model, {**settings, "weight_decay": decay})

  monkeypatch.setattr(optimizers, "build", other)
  worst = comparison.check_in_float64(shrunk("mae"), steps=STEPS)
  assert worst["weights"] > 10 * comparison.WIDE_TOLERANCE


def test_rows(comparison):
  def result(ours, theirs):
    runs = [
      {
        "method": "mae",
        "seed": seed,
        "steps": 660,
        "first": 1e-6,
        "largest": 1e-4,
        "control": 1e-6,
        "features": 1e-7,
        "linear": {"jax": a, "torch": b},
        "knn": {"jax": a, "torch": b},
      }
      for seed, (a, b) in enumerate(zip(ours, theirs, strict=True))
    ]
    wide = {"steps": 20, "loss": 1e-15, "gradient": 1e-15, "weights": 1e-12}
    found = comparison.accuracies(runs, "mae")
    return {"wide": {"mae": wide}, "runs": runs, "accuracies": {"mae": found}}

  near = list(comparison.rows(result([0.90, 0.92], [0.91, 0.92])))
  assert [row.verdict for row in near] == ["passed"] * 6
  assert near[-1].tolerance == pytest.approx(0.01)
  assert near[-1].error == pytest.approx(0.005)
  # A collapse of one of ours is no spread that would excuse it.
  far = list(comparison.rows(result([0.90, 0.50], [0.90, 0.91])))
  assert [row.verdict for row in far] == ["passed"] * 4 + ["FAILED"] * 2


def test_kept_runs_of_other_code_are_refused(comparison, tmp_path):
  runs = importlib.import_module("parity_suites.runs")
  runs.claim(tmp_path, {"torch": "1"})
  runs.claim(tmp_path, {"torch": "1"})
  with pytest.raises(UsageError, match="choose another --out"):
    runs.claim(tmp_path, {"torch": "2"})


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_whole_comparison(comparison, tmp_path, method):
  """A short run on both sides; two minutes a method.

  The comparison of README.md is `launch/parity.py --out=FOLDER --train`.
  """
  cache = jax.config.jax_compilation_cache_dir
  try:
    result = comparison.compare(
      tmp_path, methods=[method], seeds=[0, 1], epochs=11
    )
  finally:
    jax.config.update("jax_compilation_cache_dir", cache)
  rows = {row.what.partition(": ")[2]: row for row in comparison.rows(result)}
  *exact, linear, knn = rows.values()
  assert {row.verdict for row in exact} == {"passed"}
  assert "linear" in linear.what and "k-NN" in knn.what
  written = json.loads((tmp_path / "training.json").read_text())
  assert written["accuracies"] == result["accuracies"]
  assert (tmp_path / "training.png").stat().st_size < 200 * 2**10
