"""Tokens, masks of the response, and the order of batches."""

from language import small
import numpy as np
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from mmae_jax.language import arithmetic, batches, examples, template, tokens
from mmae_jax.types import UsageError

PROBLEM = arithmetic.Problem("2 + 2?", "2 + 2 = 4. The answer is: 4", "4")
LIMIT = 64


def encoded(problems, **keys):
  options = {"length": LIMIT} | keys
  return examples.encode(
    tokens.Bytes(), template.select("short"), problems, **options
  )


def test_bytes_come_back():
  text = "Zoë has 3 €."
  tokenizer = tokens.Bytes()
  assert tokenizer.decode([1, *tokenizer.encode(text), 2, 0]) == text
  assert max(tokenizer.encode(text)) < tokenizer.size


def test_response_and_end_are_learned_and_nothing_else():
  data, longer = encoded([PROBLEM])
  learned = data.tokens[0][data.response[0]]
  assert tokens.Bytes().decode(learned) == f" {PROBLEM.response}"
  assert learned[-1] == tokens.Bytes().eos_id()
  prompt = data.tokens[0][data.valid[0] & ~data.response[0]]
  assert tokens.Bytes().decode(prompt) == "Q: 2 + 2?\nA:"
  assert prompt[0] == tokens.Bytes().bos_id()
  assert not data.response[0][~data.valid[0]].any() and not longer
  assert not data.tokens[0][~data.valid[0]].any()


def test_longer_examples_are_counted_and_listed():
  long = PROBLEM._replace(query="2" * LIMIT)
  with pytest.raises(UsageError) as error:
    encoded([PROBLEM, long, long])
  said = str(error.value)
  assert "--config.data.length=64: 2 of 3 examples are longer: 2 (1" in said
  assert "--config.data.too_long=drop" in said
  data, longer = encoded([PROBLEM, long], too_long="drop")
  assert len(data.tokens) == 1 and longer == [1]
  late = PROBLEM._replace(response="1" * LIMIT)
  data, longer = encoded([PROBLEM, late], too_long="cut")
  assert len(data.tokens) == 2 and longer == [1] and data.valid[1].all()
  assert data.tokens[1, -1] != tokens.Bytes().eos_id()
  with pytest.raises(UsageError, match="no token of any response fits"):
    encoded([long], too_long="cut")


def test_vocabularies_that_differ_are_refused():
  own = tokens.Bytes()
  tokens.check_vocabulary(own, 259, padded=False)
  tokens.check_vocabulary(own, 272, padded=True)
  for rows, padded in ((272, False), (258, True), (258, False)):
    with pytest.raises(UsageError, match="259 tokens and the model's"):
      tokens.check_vocabulary(own, rows, padded=padded)
  with pytest.raises(UsageError, match="padded_vocabulary=True"):
    tokens.check_vocabulary(own, 272, padded=False)


# --- Order -----------------------------------------------------------------


def test_a_batch_is_a_function_of_seed_and_step():
  problems = arithmetic.problems(0, 20, test=False)
  data, _ = encoded(problems, length=200)
  first, again, other = (
    batches.shuffled(data, seed=seed, batch_size=8) for seed in (0, 0, 1)
  )
  for step in (7, 0, 3):
    np.testing.assert_array_equal(first(step)["tokens"], again(step)["tokens"])
  assert np.any(first(0)["tokens"] != other(0)["tokens"])
  seen = {row.tobytes() for step in (0, 1) for row in first(step)["tokens"]}
  assert len(seen) == 16  # one pass repeats nothing
  assert np.any(first(0)["tokens"] != first(2)["tokens"])


def test_in_order_fills_the_last_batch_with_nothing():
  data, _ = encoded(arithmetic.problems(0, 5, test=False), length=200)
  found = batches.in_order(data, batch_size=4)
  assert len(found) == 2 and found[1]["tokens"].shape == (4, 200)
  assert not found[1]["valid"][1:].any()
  assert not found[1]["response"][1:].any()


def test_a_split_that_does_not_fill_a_batch():
  with pytest.raises(UsageError, match="--config.batch_size=8: there are only"):
    batches.steps_per_epoch(7, 8)


# --- Of libraries ------------------------------------------------------------


def test_trained_codes_keep_digits_apart_and_come_back():
  pytest.importorskip("tokenizers", reason='needs the extra "language"')
  problems = arithmetic.problems(0, 200, test=False)
  texts = [f"{p.query}\nA: {p.response}" for p in problems]
  trained = tokens.train(texts, size=400)
  again = tokens.train(texts, size=400)
  assert trained.to_json() == again.to_json()
  copy = tokens.from_json(trained.to_json())
  for text in (*texts[:5], "Zoë has 1234 €."):
    ids = copy.encode(text)
    assert copy.decode([1, *ids, 2]) == text
  pieces = [trained.decode([i]) for i in trained.encode("has 1234 apples")]
  assert [p.strip() for p in pieces if p.strip().isdigit()] == list("1234")
  assert len(trained.encode(texts[0])) < len(texts[0]) / 2


def test_a_folder_of_hugging_face(tmp_path):
  pytest.importorskip("transformers", reason='needs the extra "language"')
  small.write_llama(tmp_path / "m")
  found = tokens.from_folder(str(tmp_path / "m"), flag="--f")
  assert found.size == small.LLAMA["vocab_size"]
  assert (found.bos_id(), found.eos_id(), found.pad_id()) == (1, 2, 2)
  ids = found.encode("Zoë has 3.")
  assert 1 not in ids and found.decode([1, *ids, 2]) == "Zoë has 3."
  with pytest.raises(UsageError, match="no such folder"):
    tokens.from_folder(str(tmp_path / "none"), flag="--f")
  (tmp_path / "empty").mkdir()
  with pytest.raises(UsageError, match=r"--f=.*has no readable tokenizer"):
    tokens.from_folder(str(tmp_path / "empty"), flag="--f")
