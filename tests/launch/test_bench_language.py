"""The bench of matrix cross-entropy: small sizes, and what it refuses."""

import importlib
import json
import statistics

import pytest

TINY = [
  *("--suite=language", "--tokens=8", "--vocabulary=96", "--width=16"),
  *("--layers=2", "--hidden=32", "--memory_tokens=160", "--rounds=2"),
]


def test_language(bench, tmp_path, monkeypatch, capsys):
  suite = importlib.import_module("bench_language")
  small = {"tokens": 4, "vocabulary": 24, "width": 8, "order": 3}
  monkeypatch.setattr(suite, "_NAIVE", small)
  out = tmp_path / "language.json"
  bench.main([*TINY, "--orders=3", f"--out={out}"])
  result = json.loads(out.read_text())
  head, (row,) = result["head"], result["rows"]
  assert len(head["seconds"]) == len(row["seconds"]) == 2
  ratios = [
    whole / alone - 1
    for whole, alone in zip(row["seconds"], head["seconds"], strict=True)
  ]
  ratio = statistics.median(ratios)
  assert row["mce_over_head"] == pytest.approx(ratio)
  assert row["mce_over_head_by_products"] == pytest.approx(5 / 3)
  # By hand: 2 (4 16^2 + 3 16 32) weights in the layers, 96 16 in the head.
  share = ratio * 1536 / (5120 + (1 + ratio) * 1536)
  assert row["share_of_step"] == pytest.approx(share)
  assert head["logits_bytes"] == 160 * 96 * 4
  assert row["temporary_bytes"] > 0
  naive = result["naive"]["rows"]
  assert naive["ours"]["over_ours"] == 1
  # Three steps of Lanczos are nearer to the logarithm than three terms are.
  assert naive["[dim, dim] per token"]["difference"] < 1e-6
  assert 0 < naive["ours, Lanczos"]["difference"] < 0.1
  told = capsys.readouterr().out
  assert "[dim, dim] per token" in told
  # tests/language has the step that is measured.
  assert ("missing" in result["whole"]) == ("is not measured" in told)


@pytest.mark.parametrize(
  "flag",
  ["--tokens=0", "--memory_tokens=0", "--orders=0", "--orders=a", "--rounds=0"],
)
def test_refuses(bench, flag):
  with pytest.raises(SystemExit, match=f"error: {flag}"):
    bench.main([*TINY, flag])


def test_refuses_another_objective(bench):
  with pytest.raises(SystemExit, match="error: --size=r50"):
    bench.main([*TINY, "--objective=mae", "--size=r50"])
