"""The whole step that launch/bench.py --suite=language measures."""

import importlib
import sys

from language import small
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from mmae_jax import recipes


def test_a_whole_step_is_measured(root, monkeypatch, capsys):
  monkeypatch.syspath_prepend(str(root / "launch"))
  config = small.config()
  monkeypatch.setattr(recipes, "language", lambda name, arg: config)
  suite = importlib.import_module("bench_language")
  try:
    whole = suite._whole_step(rounds=2)
    suite._show_whole(importlib.import_module("rich").get_console(), whole)
  finally:
    for name in [n for n in sys.modules if n.partition("_")[0] == "bench"]:
      sys.modules.pop(name)
  assert {k: len(s) for k, s in whole["seconds"].items()} == {
    "CE": 2,
    "CE + MCE": 2,
  }
  low, high = whole["share_range"]
  assert low <= whole["share_of_step"] <= high < 1
  assert whole["logits_bytes"] == 4 * 8 * 96 * 300
  memory = whole["temporary_bytes"]
  assert memory["CE + MCE"] >= memory["CE"] > 0
  assert "with CE + MCE, whose share is" in capsys.readouterr().out
