"""One trained model is asked more than one benchmark."""

import json

from language import small
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from mmae_jax import config as config_lib
from mmae_jax.language import run as run_lib
from mmae_jax.train.metrics import read_metrics

CELL = "cells/seed0_ce"


def trained(folder):
  """(step, status) of each time that the cell began or ended; of training."""
  records = read_metrics(folder / CELL)
  starts = [r["step"] for r in records if r["kind"] == "start"]
  return starts, [r["step"] for r in records if r["kind"] == "train"]


@pytest.fixture
def ask(tmp_path):
  train, test = small.write_data(tmp_path)

  def go(**keys):
    files = {"data.train": str(train), "data.test": str(test)}
    fixed = {"loss.weights": (0.0,), "data.length": 200, "batch_size": 4}
    config = small.config(**{**files, **fixed, **keys})
    (cell,) = run_lib.run(config, tmp_path / "run", seeds=[0], command="test")
    return cell

  return go


def test_another_test_set_is_asked_without_training(ask, tmp_path):
  first = ask()
  other = tmp_path / "other.jsonl"
  other.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
  second = ask(**{"data.test": str(other), "model.remat": "block"})
  assert (first.values["asked"], second.values["asked"]) == (3, 1)
  assert ask(**{"data.test_limit": 2}).values["asked"] == 2
  starts, steps = trained(tmp_path / "run")
  assert starts == [0, 3, 3] and steps == [1, 2, 3]
  folder = tmp_path / "run" / CELL
  for number, asked in (("-1", 3), ("-2", 1), ("", 2)):
    result = json.loads((folder / f"result{number}.json").read_text())
    assert result["values"]["asked"] == asked
    answers = (folder / f"generations{number}.jsonl").read_text()
    assert len(answers.splitlines()) == asked


def test_another_evaluation_is_done_without_training(ask, tmp_path):
  first = ask()
  assert ask().values == first.values
  ask(**{"evaluation.new_tokens": 5})
  starts, steps = trained(tmp_path / "run")
  assert starts == [0, 3] and steps == [1, 2, 3]
  assert (tmp_path / "run" / CELL / "result-1.json").exists()


def test_what_is_asked_is_outside_the_identity():
  plain = small.config()
  keys = {"data.test": "t.jsonl", "data.task": "math", "data.test_limit": 7}
  memory = {"model.remat": "block", "loss.chunk": 64}
  same = small.config(**keys, **memory)
  assert config_lib.digest(plain) == config_lib.digest(same)
  assert config_lib.differing_keys(plain, same) == []
  other = small.config(**{"data.train_limit": 7})
  assert config_lib.digest(plain) != config_lib.digest(other)
