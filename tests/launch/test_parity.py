"""launch/parity.py: its rows, its page, and what makes it fail."""

import functools
import importlib
import json
import sys

import jax
from programs import call, refused
import pytest

from mmae_jax import objectives
from mmae_jax.models import layers
from mmae_jax.objectives import byol

torch = pytest.importorskip("torch")


@pytest.fixture
def part(root, monkeypatch):
  """Imports a module of the suites."""
  monkeypatch.syspath_prepend(str(root / "launch"))
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  threads = torch.get_num_threads()
  yield lambda name: importlib.import_module(f"parity_suites.{name}")
  torch.set_num_threads(threads)


def run(folder, *arguments):
  """(exit code, what parity.json holds)."""
  code, _ = call("parity", f"--out={folder}", *arguments)
  return code, json.loads((folder / "parity.json").read_text())


def some_losses(part, monkeypatch, *names):
  """Leaves the first case of these losses and measures."""
  for module in (part("loss_cases"), part("information")):
    first = {}
    for case in module.cases():
      first.setdefault(case.method, case)
    chosen = [first[name] for name in names if name in first]
    monkeypatch.setattr(module, "cases", lambda chosen=chosen: chosen)


def one_model(part, monkeypatch):
  """Leaves transformers' ViTMAE in float64."""
  pytest.importorskip("transformers")
  module, foreign = part("models"), part("foreign")
  monkeypatch.setattr(module, "PRECISIONS", ("float64",))
  monkeypatch.setattr(module, "_SMALL", {"transformers": (foreign.vit_mae,)})


def test_the_report(part, monkeypatch, tmp_path, capsys):
  some_losses(part, monkeypatch, "mmae", "matrix_kl")
  code, result = run(tmp_path, "--only=losses,images")
  rows = result["rows"]
  assert code == 0 and {row["verdict"] for row in rows} == {"passed"}
  assert {row["suite"] for row in rows} == {"losses", "images"}
  assert len({(r["what"], r["other"], r["precision"]) for r in rows}) == len(
    rows
  )
  for row in rows:
    assert 0 <= row["error"] <= row["tolerance"]
    assert row["what"] and row["other"]
    if row["precision"] == "float64":
      assert row["tolerance"] <= 1e-10 or "predictions" in row["what"]
  page = (tmp_path / "parity.html").read_text()
  for row in rows:
    # As the page escapes it.
    assert row["what"].replace("'", "&#39;") in page
  assert 'src="data:image/png;base64,' in page
  assert "http" not in page
  told = capsys.readouterr().out
  assert "| losses | mmae_loss | own torch reference |" in told
  assert f"{len(rows)} rows passed, 0 failed, 0 were skipped" in told


def test_every_loss_has_a_case(part):
  cases = list(part("loss_cases").cases())
  assert {case.method for case in cases} == set(objectives.available())
  for case in (*cases, *part("information").cases()):
    assert callable(case.ours) and callable(case.theirs)


def test_a_wrong_loss_fails(part, monkeypatch, tmp_path, capsys):
  some_losses(part, monkeypatch, "byol")
  right = byol.byol_loss
  monkeypatch.setattr(
    byol, "byol_loss", lambda **views: (1 + 1e-9) * right(**views)
  )
  code, result = run(tmp_path, "--only=losses")
  assert code == 1 and result["counts"]["FAILED"] == 4
  for row in result["rows"]:
    wide = row["precision"] == "float64" and row["what"].startswith("byol")
    assert row["verdict"] == ("FAILED" if wide else "passed")
  assert "FAILED: byol_loss: value, ordinary" in capsys.readouterr().out
  assert 'class="FAILED"' in (tmp_path / "parity.html").read_text()


def test_a_gradient_that_is_not_stopped_fails(part, monkeypatch, tmp_path):
  some_losses(part, monkeypatch, "byol")
  monkeypatch.setattr(part("losses"), "PRECISIONS", ("float64",))
  monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
  code, result = run(tmp_path, "--only=losses")
  failed = {r["what"] for r in result["rows"] if r["verdict"] == "FAILED"}
  assert code == 1
  assert "byol_loss: gradient, ordinary inputs" in failed
  assert "byol_loss: value, ordinary inputs" not in failed


def test_layer_by_layer(part, monkeypatch, tmp_path):
  one_model(part, monkeypatch)
  code, result = run(tmp_path, "--only=models")
  assert code == 0
  by_layer, loss, gradient = result["rows"]
  assert by_layer["first"] == "" and len(by_layer["curve"]) >= 17
  names = list(by_layer["errors"])
  assert (names[0], names[-1]) == ("encoder/patch_embed", "decoder/pred")
  assert "decoder/mask_token" in gradient["errors"]
  assert loss["first"] is None


def test_the_first_wrong_layer_is_named(part, monkeypatch, tmp_path):
  one_model(part, monkeypatch)
  # What jax.nn.gelu does unless it is asked for the exact one.
  tanh = functools.partial(jax.nn.gelu, approximate=True)
  monkeypatch.setattr(layers, "gelu", tanh)
  code, result = run(tmp_path, "--only=models")
  assert code == 1
  by_layer = result["rows"][0]
  assert by_layer["verdict"] == "FAILED"
  # Before transformers 5 a block's MLP is no module of its own.
  assert by_layer["first"] in ("encoder/block_0/mlp", "encoder/block_0")


def test_a_hundred_steps(part, monkeypatch, tmp_path):
  pytest.importorskip("transformers")
  module = part("optimizers")
  kept = [s for s in module._SETTINGS if s.name == "AdamW"]
  monkeypatch.setattr(module, "_SETTINGS", kept)
  monkeypatch.setattr(module, "PRECISIONS", ("float64",))
  code, result = run(tmp_path, "--only=optimizers")
  assert code == 0
  curves = [row for row in result["rows"] if row["curve"]]
  assert [len(row["curve"]) for row in curves] == [100]
  names = {row["what"].partition(":")[0] for row in result["rows"]}
  assert {"BatchNorm", "clipping", "learning rate", "moving average"} <= names


def test_what_is_not_there_is_skipped(part, monkeypatch, tmp_path, capsys):
  for name in ("transformers", "timm", "torchvision"):
    monkeypatch.setitem(sys.modules, name, None)
  code, result = run(tmp_path, "--only=models")
  assert code == 0 and result["counts"]["skipped"] == 3
  for row in result["rows"]:
    assert row["verdict"] == "skipped"
    assert row["note"].startswith(f"import {row['other']}: ")
    assert row["error"] is None
  assert "skipped: import timm: " in capsys.readouterr().out


def test_what_is_not_finite_fails(part):
  """Also behind the first tensor, and where there is nothing to compare."""
  rows = part("rows")
  found = rows.tree_errors(
    {"a": [1.0], "b": [float("nan")], "c": [1.0]}, {key: [1.0] for key in "abc"}
  )
  assert found == {"a": 0.0, "b": float("inf"), "c": 0.0}
  row = rows.compared("losses", "x", "y", "float64", found, 1e-10)
  assert (row.verdict, row.where) == ("FAILED", "b")
  assert part("training")._apart([1.0, None], [1.0, 2.0])[1] == float("inf")


def test_refusals(part, monkeypatch, tmp_path):
  out = f"--out={tmp_path}"
  assert "must be one or more of models," in refused(
    out, "--only=modes", program="parity"
  )
  monkeypatch.setitem(sys.modules, "torch", None)
  message = refused(out, program="parity")
  assert 'pip install "mmae_jax[torch]"' in message
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_full_size(part, tmp_path):
  pytest.importorskip("transformers")
  code, result = run(tmp_path, "--only=models", "--full")
  assert code == 0
  assert sum("full size" in row["what"] for row in result["rows"]) == 19
