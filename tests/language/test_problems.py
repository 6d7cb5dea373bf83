"""Generated arithmetic, templates, and files of questions."""

import json

from language import small
import pytest

from mmae_jax.language import (
  answers,
  arithmetic,
  checks,
  datasets,
  metamath,
  template,
)
from mmae_jax.types import UsageError


def test_solutions_are_right_and_end_with_the_marker():
  for problem in arithmetic.problems(3, 300, test=False, largest=12):
    *steps, last = problem.response.split(". ")
    for step in steps:
      left, _, right = step.partition(" = ")
      assert eval(left) == int(right) >= 0
    assert last == f"The answer is: {problem.answer}"
    assert answers.gsm8k_correct(problem.response, problem.response)


def test_the_same_seed_gives_the_same_problems():
  first, again, other = (
    arithmetic.problems(seed, 50, test=False) for seed in (1, 1, 2)
  )
  assert first == again != other
  assert len({p.query for p in first}) == 50


def test_train_and_test_share_no_kind_with_its_numbers():
  """Whatever the seeds: the kind and its numbers decide on the split."""
  train = arithmetic.problems(0, 2000, test=False)
  test = arithmetic.problems(1, 300, test=True)
  solutions = {p.response for p in train}
  # A kind is told by its operations, so a solution stands for its numbers.
  assert not solutions & {p.response for p in test}


def test_too_many_problems_are_refused():
  with pytest.raises(UsageError, match=r"--config\.data\.test_examples=900"):
    arithmetic.problems(0, 900, test=True, largest=3)
  with pytest.raises(UsageError, match=r"--config\.data\.largest=2"):
    arithmetic.problems(0, 1, test=True, largest=2)


def test_templates():
  metamath_ = template.select("metamath")
  assert metamath_.prompt("How?").endswith("How?\n\n### Response:")
  assert metamath_.question("How?") == (
    metamath_.prompt("How?") + " Let's think step by step."
  )
  with pytest.raises(UsageError, match="--config.data.template=alpaca"):
    template.select("alpaca")


# --- Files ---------------------------------------------------------------


def read(path, **keys):
  options = {"flag": "--f", "reference": answers.tail} | keys
  return metamath.read(str(path), **options)


def test_a_file_of_metamath(tmp_path):
  path = tmp_path / "a.json"
  rows = [{"query": "q", "response": "r. The answer is: 1", "type": "x"}] * 3
  path.write_text(json.dumps(rows))
  found = read(path)
  assert len(found) == 3 and found[0].query == "q"
  assert found[0].response == "r. The answer is: 1"
  assert len(read(path, limit=2)) == 2


def test_a_file_of_gsm8k(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"question": "q", "answer": "#### 3"}\n\n')
  assert read(path, reference=answers.gsm8k_reference)[0].query == "q"


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ('[\n{"query": "q",\n]', "line 3 is not JSON"),
    ('{"query": "q"}', "is a dict, not a list"),
    ("[]", "has no records"),
    ("[3]", "record 1 is a int, not an object"),
    (
      '[{"query": "q", "response": "The answer is: 1"}, {"query": "q"}]',
      'record 2 has no text "response"',
    ),
    ('[{"response": "r"}]', 'record 1 has no text "query"'),
    ('[{"query": 3, "response": "r"}]', 'record 1 has no text "query"'),
    (
      '[{"query": "q", "response": "The answer is: 1"},'
      ' {"query": "q", "response": "The answer is 1"}]',
      '1 of 2 solutions have no answer ("The answer is: "): record 2',
    ),
  ],
)
def test_malformed_lists(tmp_path, text, message):
  path = tmp_path / "a.json"
  path.write_text(text)
  with pytest.raises(UsageError) as error:
    read(path)
  assert f"--f={path}: {message}" in str(error.value)


def test_malformed_lines(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"query": "q", "response": "The answer is: 1"}\n{"query"\n')
  with pytest.raises(UsageError, match="line 2 is not JSON"):
    read(path)


def test_a_line_may_have_other_line_ends_of_unicode(tmp_path):
  path = tmp_path / "a.jsonl"
  line = {"query": "one\u2028two\u0085", "response": "The answer is: 1"}
  path.write_text(json.dumps(line, ensure_ascii=False) + "\n")
  assert read(path)[0].query == line["query"]


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"model.folder": "llemma"}, "--config.data.train=: needs FILE.json"),
    ({"data.train": "a.json"}, "--config.data.test=: needs FILE.jsonl"),
    ({"lora.modules": "("}, "is no regular expression"),
  ],
)
def test_what_a_run_needs(keys, message):
  with pytest.raises(UsageError, match=message):
    checks.check(small.config(**keys))


def test_a_missing_file(tmp_path):
  with pytest.raises(UsageError, match="no such file"):
    read(tmp_path / "none.json")
  with pytest.raises(UsageError, match="no such file"):
    read("")


def test_a_test_file_needs_a_training_file(tmp_path):
  with pytest.raises(UsageError, match="needs --config.data.train"):
    datasets.read_problems(small.config(**{"data.test": "t.jsonl"}).data)
  with pytest.raises(UsageError, match="--config.data.task=mmlu"):
    datasets.read_problems(small.config(**{"data.task": "mmlu"}).data)


def test_a_tokenizer_without_a_folder_is_refused(tmp_path):
  config = small.config(**{"tokenizer.kind": "folder"})
  with pytest.raises(UsageError, match=r"needs --config.tokenizer.folder=FOLD"):
    datasets.open_tokenizer(config, [], tmp_path)
