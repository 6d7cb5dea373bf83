"""The loss: plain cross-entropy, its mask, the matrix term and its options."""

import chex
import jax
import jax.numpy as jnp
from language import small
import numpy as np
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from mmae_jax import information
from mmae_jax.language import checks, loss as loss_lib
from mmae_jax.language.loss import MatrixTerm
from mmae_jax.types import UsageError

VOCABULARY, WIDTH = 12, 6


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, VOCABULARY, (3, 7)).astype(np.int32)
  response = np.zeros((3, 7), bool)
  response[0, 3:6] = response[1, 1:] = response[2, 5:6] = True
  return {
    "logits": rng.normal(size=(3, 7, VOCABULARY)).astype(np.float32),
    "tokens": tokens,
    "response": response,
    "vectors": rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32),
  }


def loss(batch, term, **changed):
  b = batch | changed
  sums = loss_lib.response_sums(
    b["logits"], b["tokens"], b["response"], b["vectors"], term
  )
  return loss_lib.from_sums(sums, term)[0]


def plain(logits, batch):
  """Cross-entropy as it would be written without a matrix term."""
  log_q = logits[:, :-1].astype(jnp.float32)
  picked = jnp.take_along_axis(log_q, batch["tokens"][:, 1:, None], -1)[..., 0]
  values = jax.nn.logsumexp(log_q, axis=-1) - picked
  response = batch["response"][:, 1:]
  return jnp.sum(jnp.where(response, values, 0)) / jnp.maximum(
    jnp.sum(response), 1
  )


def test_cross_entropy_in_float64(batch):
  x = batch["logits"][:, :-1].astype(np.float64)
  q = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
  picked = np.take_along_axis(q, batch["tokens"][:, 1:, None], -1)[..., 0]
  expected = -np.log(picked)[batch["response"][:, 1:]].mean()
  found = loss(batch, MatrixTerm(weight=0.0))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_weight_0_is_plain_cross_entropy_bit_for_bit(batch, jit):
  ours = lambda x: loss(batch, MatrixTerm(weight=0.0), logits=x)
  theirs = lambda x: plain(x, batch)
  wrap = jax.jit if jit else lambda f: f
  (a, ga), (b, gb) = (
    wrap(jax.value_and_grad(f))(batch["logits"]) for f in (ours, theirs)
  )
  np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(ga, gb)


@pytest.mark.parametrize("form", ["token", "relation"])
def test_prompt_and_padding_have_no_gradient(batch, form):
  term = MatrixTerm(form=form)
  by_logits = jax.grad(lambda x: loss(batch, term, logits=x))(batch["logits"])
  learned = np.zeros((3, 7), bool)
  learned[:, :-1] = batch["response"][:, 1:]
  assert not np.any(np.asarray(by_logits)[~learned])
  assert np.all(np.abs(by_logits)[learned].max(-1) > 0)


@pytest.mark.parametrize("form", ["token", "relation"])
def test_what_is_masked_does_not_matter(batch, form):
  term = MatrixTerm(form=form)
  other = np.array(batch["logits"])
  outside = np.ones((3, 7), bool)
  outside[:, :-1] = ~batch["response"][:, 1:]
  other[outside] += 3.0
  assert loss(batch, term) == loss(batch, term, logits=other)


def test_the_sum_of_both_terms(batch):
  """CE + weight MCE, each the mean over response tokens."""
  logits = batch["logits"][:, :-1]
  values = information.token_matrix_cross_entropy(
    logits,
    batch["tokens"][:, 1:],
    information.normalise_rows(batch["vectors"]),
  )
  expected = plain(batch["logits"], batch) + 0.3 * np.mean(
    np.asarray(values)[batch["response"][:, 1:]]
  )
  found = loss(batch, MatrixTerm(weight=0.3))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_check_value_of_the_notes():
  """Order 4 of the notes' 12 tokens in 6 dimensions, at ridge 0.5."""
  with jax.enable_x64():
    i, j = np.arange(1, 13)[:, None], np.arange(1, 7)
    vectors = np.sin(0.7 * i * j) + 0.3 * np.cos(1.1 * i + j**2)
    logits = np.broadcast_to(2 * np.sin(1.3 * np.arange(1, 13)), (1, 2, 12))
    term = MatrixTerm(ridge=0.5, plus_trace=False)
    sums = loss_lib.response_sums(
      jnp.asarray(logits),
      jnp.asarray([[0, 2]]),
      jnp.asarray([[False, True]]),
      jnp.asarray(vectors),
      term,
    )
    _, means = loss_lib.from_sums(sums, term)
    np.testing.assert_allclose(means["ce"], 4.8430773311, rtol=1e-9)
    np.testing.assert_allclose(means["mce"], 0.2008785951, rtol=1e-9)


def test_detached_vectors_have_no_gradient(batch):
  def of(term):
    return jax.grad(lambda v: loss(batch, term, vectors=v))(batch["vectors"])

  assert not np.any(of(MatrixTerm()))
  assert np.any(of(MatrixTerm(detached=False)))


@pytest.mark.parametrize(
  "term",
  [
    MatrixTerm(detached=False),
    MatrixTerm(method="lanczos", unit_norm=False, order=6, ridge=0.5),
    MatrixTerm(form="relation", order=3),
    MatrixTerm(smoothing=0.1, plus_trace=False),
  ],
)
def test_numerical_gradients(batch, term):
  with jax.enable_x64():
    wide = {
      k: jnp.asarray(v, jnp.float64) if v.dtype == np.float32 else v
      for k, v in batch.items()
    }
    chex.assert_numerical_grads(
      lambda x: loss(wide, term, logits=x),
      (wide["logits"],),
      order=1,
      modes=["rev"],
    )


def test_peaked_and_impossible_tokens_stay_finite(batch):
  extreme = np.array(batch["logits"])
  extreme[0] *= 1e4
  extreme[1, :, 3] = -np.inf
  tokens = np.where(batch["tokens"] == 3, 4, batch["tokens"])
  twins = np.repeat(batch["vectors"][:6], 2, axis=0)
  term = MatrixTerm(detached=False)
  f = lambda x, v: loss(batch, term, logits=x, vectors=v, tokens=tokens)
  value, grads = jax.value_and_grad(f, (0, 1))(extreme, twins)
  assert np.isfinite(value)
  for grad in grads:
    assert np.all(np.isfinite(grad))


def test_an_empty_response_gives_zero(batch):
  nothing = np.zeros((3, 7), bool)
  assert loss(batch, MatrixTerm(), response=nothing) == 0


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"loss.order": 0}, "--config.loss.order=0: must be at least 1"),
    ({"loss.ridge": 1.5}, "--config.loss.ridge=1.5: must be in (0, 1]"),
    ({"loss.ridge": 0.0}, "--config.loss.ridge=0.0: must be positive"),
    ({"loss.unit_norm": False}, "--config.loss.unit_norm=False: must be True"),
    ({"loss.method": "pade"}, "--config.loss.method=pade: must be taylor or"),
    ({"loss.form": "gram"}, "--config.loss.form=gram: must be token or"),
    ({"loss.embeddings": "both"}, "--config.loss.embeddings=both: must be"),
    ({"loss.temperature": 0.0}, "--config.loss.temperature=0.0"),
    ({"loss.smoothing": 1.0}, "--config.loss.smoothing=1.0: must be in [0, 1)"),
    ({"loss.weights": (1.0, 1.0)}, "--config.loss.weights=(1.0, 1.0): needs"),
    ({"loss.weights": (-1.0,)}, "--config.loss.weights=(-1.0,): must be at"),
    ({"microbatches": 3}, "--config.microbatches=3: must divide"),
    ({"model.dtype": "int8"}, "--config.model.dtype=int8"),
    ({"epochs": 0.0}, "--config.epochs=0.0: must be positive"),
  ],
)
def test_values_that_no_loss_can_use(keys, message):
  with pytest.raises(UsageError) as error:
    checks.check(small.config(**keys))
  assert message in str(error.value)


def test_lanczos_takes_longer_vectors_and_ridges():
  keys = {"loss.method": "lanczos", "loss.unit_norm": False, "loss.ridge": 2.0}
  terms = checks.check(small.config(**keys))
  assert [t.weight for t in terms] == [0.0, 1.0]
  assert terms[1].ridge == 2.0


def test_a_config_of_images_is_refused():
  from mmae_jax import recipes

  with pytest.raises(UsageError, match=r"launch/train\.py"):
    checks.check(recipes.masked("mmae", None))
