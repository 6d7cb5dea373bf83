"""The bench: small sizes, real contestants, and what it refuses."""

import importlib
import json
import sys

import pytest


@pytest.fixture
def bench(root, monkeypatch):
  """launch/bench.py as it finds itself when started: its folder comes first."""
  monkeypatch.syspath_prepend(str(root / "launch"))
  monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  yield importlib.import_module("bench")
  for name in ("bench", "bench_step", "bench_input", "bench_torch"):
    sys.modules.pop(name, None)


TINY = ["--suite=step", "--size=digits", "--batch=8", "--rounds=2", "--steps=1"]
# One program for both tests, so that the second finds it compiled.
PROGRAM = [*TINY, "--objective=mmae", "--dtype=bfloat16", "--remat"]


def test_step(bench, tmp_path, capsys):
  out = tmp_path / "bench.json"
  bench.main([*PROGRAM, "--no_torch", f"--out={out}"])
  result = json.loads(out.read_text())
  row = result["contestants"]["mmae_jax"]
  assert len(row["seconds"]) == 2 and row["images_per_second"] > 0
  assert row["memory_bytes"] > 0
  assert result["peak"] is None and row["share_of_peak"] is None
  assert result["flops_per_step"] > 1e6
  assert "ratio" not in result
  assert "unknown" in capsys.readouterr().out


def test_step_beside_pytorch(bench, tmp_path, capsys):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  out = tmp_path / "bench.json"
  bench.main([*PROGRAM, f"--out={out}"])
  result = json.loads(out.read_text())
  theirs = result["contestants"]["Hugging Face"]["seconds"]
  ours = result["contestants"]["mmae_jax"]["seconds"]
  ratios = [t / o for t, o in zip(theirs, ours, strict=True)]
  assert result["ratio"]["min"] == min(ratios)
  assert result["ratio"]["max"] == max(ratios)
  assert "times as fast as Hugging Face" in capsys.readouterr().out


def test_input(bench, tmp_path, monkeypatch, capsys):
  suite = importlib.import_module("bench_input")
  kinds = {
    "small": ("png", 16, 16, 128, 8, True),
    "large": ("jpg", 50, 40, 128, 16, False),
  }
  monkeypatch.setattr(suite, "_KINDS", kinds)
  monkeypatch.setattr(suite, "_PHOTOMETRY", {8: ("", "solo_learn_symmetric")})
  out = tmp_path / "bench.json"
  settings = ["--threads=1", "--workers=0", "--seconds=0.01", f"--out={out}"]
  bench.main(["--suite=input", *settings])
  result = json.loads(out.read_text())
  rows, colours = result["rows"], result["photometry"]
  assert [row["kind"] for row in rows] == ["small", "large"]
  assert [row["recipe"] for row in colours] == ["", "solo_learn_symmetric"]
  assert all(row["images_per_second"] > 0 for row in rows + colours)
  printed = capsys.readouterr().out
  assert "images/s" in printed and "normalise alone" in printed


@pytest.mark.parametrize(
  "argv, message",
  [
    ([*TINY[:2], "--batch=0"], "--batch=0"),
    ([*TINY[:2], "--batch=3"], "--config.batch_size=3"),
    ([*TINY, "--size=b17"], "b17"),
    ([*TINY[:1], "--size=h14", "--objective=mmae"], "vit_h14"),
    (["--suite=input", "--threads=0"], "--threads=0"),
    (["--suite=input", "--workers=a"], "--workers=a"),
    (["--suite=speed"], "speed"),
  ],
)
def test_refuses(bench, argv, message):
  with pytest.raises(SystemExit, match="error: ") as refusal:
    bench.main(argv)
  assert message in str(refusal.value)
