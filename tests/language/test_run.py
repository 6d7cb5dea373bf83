"""The program, from its command to its report, on small models and files."""

import json
import math

from language import small
from programs import call, refused
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from mmae_jax.language import results, run as run_lib
from mmae_jax.train.metrics import read_metrics
from mmae_jax.types import UsageError

CONFIG = "configs/matrix_llm.py"
SMALL = [
  f"--config.{key}={value}"
  for key, value in {
    **{"batch_size": 8, "data.train_examples": 24, "data.test_examples": 6},
    **{"tokenizer.size": 300, "data.length": 96, "model.layers": 1},
    **{"model.width": 16, "model.hidden": 16, "model.heads": 2},
    **{"model.kv_heads": 2, "evaluation.batch_size": 4, "mesh.fsdp": 1},
    **{"evaluation.new_tokens": 4, "logging.log_every_steps": 2},
  }.items()
]


def program(root, *arguments, argument=""):
  config = f"--config={root / CONFIG}{argument}"
  return call("finetune_language", config, *arguments)


def refusal(root, *arguments, argument=""):
  config = f"--config={root / CONFIG}{argument}"
  return refused(config, *arguments, program="finetune_language")


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
  """Two losses and two seeds on generated arithmetic."""
  folder = tmp_path_factory.mktemp("language") / "run"
  done = program(root, *SMALL, "--seeds=0,3", f"--workdir={folder}")
  assert done == (0, "")
  return folder


def test_what_a_run_leaves_behind(finished):
  found = json.loads((finished / "results.json").read_text())
  cells = [(r["seed"], r["weight"]) for r in found]
  assert cells == [(0, 0.0), (0, 1.0), (3, 0.0), (3, 1.0)]
  for result in found:
    values = result["values"]
    assert values["asked"] == 6 and len(values["each"]) == 6
    assert values["right"] == sum(values["each"])
    assert values["held_out_ce"] > 0 and math.isfinite(values["held_out_mce"])
    records = read_metrics(result["folder"])
    assert [r["kind"] for r in records if r["kind"] != "train"] == [
      *("start", "eval", "end")
    ]
    train = [r for r in records if r["kind"] == "train"]
    assert [r["step"] for r in train] == [2, 3]
    assert ("mce" in train[0]) == (result["weight"] > 0)
    for name in ("loss", "ce", "grad_norm", "learning_rate"):
      assert all(math.isfinite(r[name]) for r in train)
  table = (finished / "table.md").read_text()
  assert "| CE | 2 |" in table and "| CE + 1 MCE | 2 |" in table
  assert "of 12" in table and "Of 12 questions" in table
  page = (finished / "report.html").read_text()
  assert "Matrix cross-entropy" in page and "could not be drawn" not in page
  assert (finished / "figures" / "ce.png").exists()


def test_losses_begin_from_the_same_weights_and_batches(finished):
  first = [
    next(
      r for r in read_metrics(finished / "cells" / cell) if r["kind"] == "train"
    )
    for cell in ("seed0_ce", "seed0_ce_1mce", "seed3_ce")
  ]
  # Only the first step is the same; the window's mean has the second one too.
  assert abs(first[0]["ce"] - first[1]["ce"]) < 0.05
  assert first[0]["ce"] != first[2]["ce"]


def test_the_same_command_trains_nothing_again(root, finished, capsys):
  before = (finished / "cells/seed0_ce/result.json").stat().st_mtime_ns
  assert program(root, *SMALL, "--seeds=0,3", f"--workdir={finished}") == (
    0,
    "",
  )
  assert "finished before" in capsys.readouterr().out
  assert (finished / "cells/seed0_ce/result.json").stat().st_mtime_ns == before


def test_another_config_needs_another_folder(root, finished):
  other = "--config.optimizer.learning_rate=1.0"
  said = refusal(root, *SMALL, other, f"--workdir={finished}")
  assert "belongs to a run with another config" in said
  assert "optimizer.learning_rate: 0.005 -> 1.0" in said


def recipe(root, folder, *arguments):
  """Arguments of the 7B recipe on tiny files of the same format."""
  train, test = small.write_data(folder)
  return [
    f"--config.model.folder={folder / 'model'}",
    f"--config.data.train={train}",
    f"--config.data.test={test}",
    *("--config.batch_size=4", "--config.evaluation.batch_size=2"),
    *("--config.evaluation.new_tokens=4", "--config.mesh.fsdp=4"),
    *("--config.epochs=1", f"--workdir={folder / 'run'}"),
    *arguments,
  ]


@pytest.mark.parametrize("extra", [[], ["--config.lora.rank=2"]])
def test_the_7b_recipe_on_tiny_files(root, tmp_path, extra):
  small.write_llama(tmp_path / "model")
  done = program(
    root, *recipe(root, tmp_path, *extra), argument=":gsm8k_llemma_7b"
  )
  assert done == (0, "")
  (result,) = json.loads((tmp_path / "run/results.json").read_text())
  assert result["weight"] == 1.0 and result["values"]["asked"] == 3
  lines = (tmp_path / "run/cells/seed0_ce_1mce/generations.jsonl").read_text()
  assert len(lines.splitlines()) == 3
  assert (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config.model.folder=none"], "--config.model.folder=none: no such"),
    (["--config.data.train=none.json"], "none.json: no such file"),
    (
      ["--config.data.length=250", "--config.data.too_long=refuse"],
      "of 12 examples are longer",
    ),
    (["--config.loss.order=0"], "--config.loss.order=0: must be at least 1"),
    (["--config.mesh.tp=3"], "--config.mesh.tp=3"),
    (["--config.batch_size=6"], "must be divisible by 4"),
    (["--config.batch_size=16"], "there are only 12 examples"),
    (["--seeds=0,0"], "--seeds=0,0: needs different numbers"),
    (["--config.evaluation.tokens=3"], "the config has no such key"),
  ],
)
def test_mistakes_are_one_line_before_anything_compiles(
  root, tmp_path, arguments, message
):
  small.write_llama(tmp_path / "model")
  given = recipe(root, tmp_path, "--config.data.length=400", *arguments)
  assert message in refusal(root, *given, argument=":gsm8k_llemma_7b")


def test_a_tokenizer_of_another_model(root, tmp_path):
  small.write_llama(tmp_path / "model")
  small.write_llama(tmp_path / "other", vocab_size=280)
  given = recipe(
    root, tmp_path, f"--config.tokenizer.folder={tmp_path / 'other'}"
  )
  said = refusal(root, *given, argument=":gsm8k_llemma_7b")
  assert "280 tokens and the model's embedding (--config.model) 272" in said


def test_configs_of_images_and_of_language_are_told_apart(root):
  said = refused(f"--config={root / CONFIG}")
  assert "python launch/finetune_language.py runs it" in said
  said = refused(
    f"--config={root / 'configs/mmae.py'}", program="finetune_language"
  )
  assert "python launch/train.py runs it" in said


def test_unknown_arguments_of_the_config(root):
  said = refusal(root, argument=":llama_70b")
  assert "no such argument; there are none, and gsm8k_llemma_7b" in said


def test_mean_and_spread():
  assert results.spread([1.0], ".1f") == "1.0"
  assert results.spread([1.0, 3.0], ".1f") == "2.0 ± 1.4"


def test_a_loss_that_is_no_longer_finite_ends_the_run(tmp_path):
  config = small.config(
    **{"optimizer.learning_rate": 1e30, "optimizer.clip_norm": 0.0}
  )
  with pytest.raises(UsageError, match=r"step \d: the loss is (nan|inf)"):
    run_lib.run(config, tmp_path, seeds=[0], command="test")
