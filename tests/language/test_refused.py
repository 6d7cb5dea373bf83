"""A start that was refused leaves a folder that any config may take."""

from language import small
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from mmae_jax.language import checks, datasets, run as run_lib
from mmae_jax.train import workdir as workdir_lib
from mmae_jax.types import UsageError


def go(folder, **keys):
  config = small.config(
    **{"loss.weights": (0.0,), "data.test_examples": 2, **keys}
  )
  return run_lib.run(config, folder, seeds=[0], command="test")


def tokenizer(folder, **keys):
  config = small.config(**keys)
  problems = datasets.read_problems(config.data)
  return datasets.open_tokenizer(config, problems.train, folder)


def test_mistakes_that_only_the_model_shows_may_be_put_right(tmp_path):
  with pytest.raises(UsageError, match="lora.modules"):
    go(tmp_path, **{"lora.rank": 2, "lora.modules": "none"})
  assert list((tmp_path / "cells").iterdir())
  assert not workdir_lib.holds_work(tmp_path)
  go(tmp_path)
  assert workdir_lib.holds_work(tmp_path)
  with pytest.raises(UsageError, match="belongs to a run with another config"):
    go(tmp_path, **{"batch_size": 4})


@pytest.mark.parametrize(
  "name", ["metrics.jsonl", "result.json", "checkpoints/1"]
)
def test_a_cell_that_has_begun_holds_work(tmp_path, name):
  assert not workdir_lib.holds_work(tmp_path)
  path = tmp_path / "cells" / "seed0_ce" / name
  path.parent.mkdir(parents=True)
  path.write_text("{}\n")
  assert workdir_lib.holds_work(tmp_path)


def test_a_refused_start_leaves_no_tokenizer_for_another_config(tmp_path):
  with pytest.raises(UsageError, match="are longer"):
    go(tmp_path, **{"data.length": 8})
  found = tokenizer(tmp_path, **{"tokenizer.size": 280})
  assert found.size == 280


def test_the_tokenizer_of_a_run_is_read_again(tmp_path):
  first = tokenizer(tmp_path)
  cell = tmp_path / "cells" / "seed0_ce"
  cell.mkdir(parents=True)
  (cell / "metrics.jsonl").write_text("{}\n")
  again = tokenizer(tmp_path, **{"data.seed": 1})
  assert again.to_json() == first.to_json()
  (tmp_path / "tokenizer.json").write_text('{"version": ')
  with pytest.raises(UsageError, match="tokenizer cannot be read"):
    tokenizer(tmp_path)


def test_weights_that_would_share_a_folder_are_refused():
  config = small.config(**{"loss.weights": (0.1, 0.10000001)})
  with pytest.raises(UsageError, match="are the same to 6 digits"):
    checks.check(config)
