"""Greedy answers, and held-out losses."""

import jax
import jax.numpy as jnp
from language import small
import numpy as np
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from flax import nnx

from mmae_jax.language import (
  arithmetic,
  evaluate,
  examples,
  families,
  loss as loss_lib,
  models,
  sharding,
  template,
  tokens,
)

QUESTIONS = ["1 + 1?", "What is two and two?", "3?"]


@pytest.fixture(scope="module")
def two_models():
  mesh = sharding.make_mesh(fsdp=1, tp=1)
  sizes = families.from_config(small.config().model, tokens.Bytes().size)
  return [models.create(jax.random.key(i), sizes, mesh) for i in (0, 1)]


_logits = nnx.jit(models.logits)


def greedy(model, prompt, steps):
  """The most probable continuation, one whole forward pass a token.

  The second model's answer to the last question would have padding in it.
  """
  tokenizer = tokens.Bytes()
  ids = [tokenizer.bos_id(), *tokenizer.encode(prompt)]
  first = len(ids)
  for _ in range(steps):
    row = np.zeros((1, 40), np.int32)  # one length, one compilation
    row[0, : len(ids)] = ids
    scores = _logits(model, row, np.arange(40)[None] < len(ids))
    best = scores[0, len(ids) - 1].at[tokenizer.pad_id()].set(-jnp.inf)
    ids.append(int(jnp.argmax(best)))
    if ids[-1] == tokenizer.eos_id():
      break
  return tokenizer.decode(ids[first:])


def test_the_sampler_is_greedy_and_serves_every_model(two_models):
  """Padding on the left and the cache change nothing; questions keep order."""
  words = template.select("short")
  generator = evaluate.Generator(
    tokens.Bytes(), words, QUESTIONS, batch_size=2, new_tokens=4
  )
  for model in two_models:
    expected = [greedy(model, words.question(q), 4) for q in QUESTIONS]
    assert generator(model) == expected
  assert generator(two_models[0]) != generator(two_models[1])


def test_held_out_losses_are_means_over_response_tokens(two_models):
  problems = arithmetic.problems(0, 5, test=True)
  data, _ = examples.encode(
    tokens.Bytes(), template.select("short"), problems, length=176
  )
  term = loss_lib.MatrixTerm()
  found = evaluate.HeldOut(data, term, batch_size=4)(two_models[0])
  logits = models.logits(
    two_models[0], jnp.asarray(data.tokens), jnp.asarray(data.valid)
  )
  vectors = models.embeddings(two_models[0], "input")
  sums = loss_lib.response_sums(
    logits, data.tokens, data.response, vectors, term
  )
  _, expected = loss_lib.from_sums(sums, term)
  for name in ("ce", "mce"):
    np.testing.assert_allclose(
      found[f"held_out_{name}"], expected[name], rtol=1e-5
    )
