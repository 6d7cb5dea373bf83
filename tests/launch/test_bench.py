"""The bench: small sizes, real contestants, and what it refuses."""

import importlib
import json

import pytest

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


VIEWS = ["--suite=step", "--size=digits", "--batch=8", "--rounds=2"]


def test_two_views_beside_pytorch(bench, tmp_path, capsys):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  out = tmp_path / "bench.json"
  bench.main([*VIEWS, "--objective=two_view", f"--out={out}"])
  result = json.loads(out.read_text())
  ours = result["network"]["mmae_jax"]
  assert len(ours["seconds"]) == 2 and ours["temporary_bytes"] > 0
  assert result["ratio"]["min"] > 0
  losses = {row["method"]: row for row in result["losses"]}
  assert losses.keys() == {*bench.TWO_VIEW, "matrix_ssl, dense"}
  for row in (*losses.values(), *result["photometry"]):
    own = row["seconds_median"]
    share = own / (own + ours["seconds_median"])
    assert row["share_of_step"] == pytest.approx(share)
  # Products of [8, 8] and of [256, 256], and a queue of 1024 rows.
  lean, dense = losses["matrix_ssl"], losses["matrix_ssl, dense"]
  assert 100 * lean["flops"] < dense["flops"]
  assert losses["moco_v2"]["flops"] > 2 * 2 * 8 * 1024 * 128
  printed = capsys.readouterr().out
  assert "Above 10% of the step" in printed
  assert "mmae_jax is" in printed and "matrix_ssl is" in printed


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
    ([*VIEWS, "--objective=simclr", "--batch=1"], "--config.batch_size=1"),
    ([*VIEWS, "--objective=moco_v2", "--batch=9"], "queue_size=1024"),
    ([*VIEWS, "--objective=mec", "--microbatches=2"], "--microbatches=2"),
    ([*VIEWS, "--objective=mec", "--size=l16"], "--size=l16"),
    ([*VIEWS, "--objective=mae", "--size=r50"], "--size=r50"),
    (["--suite=information", "--objective=mec"], "--objective=mec"),
  ],
)
def test_refuses(bench, argv, message):
  with pytest.raises(SystemExit, match="error: ") as refusal:
    bench.main(argv)
  assert message in str(refusal.value)
