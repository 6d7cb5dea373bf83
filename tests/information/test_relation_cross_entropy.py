"""RelationMatch's matrix cross-entropy, against NumPy's matrices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from mmae_jax import information

MCE = information.relation_matrix_cross_entropy
LOGITS = np.random.default_rng(0).normal(size=(6, 4)) * 2
TARGETS = np.array([0, 3, 3, 1, 0, 2])


def naive(logits, targets, *, order, ridge, temperature):
  def normalised(rows):
    eye = np.eye(len(rows))
    a = np.exp((rows @ rows.T / len(rows) + ridge * eye) / temperature)
    return a / a.sum()

  p = normalised(np.eye(logits.shape[1])[targets])
  q = normalised(scipy.special.softmax(logits, 1))
  m = q - np.eye(len(q))
  log = sum(
    (-1) ** (k + 1) / k * np.linalg.matrix_power(m, k)
    for k in range(1, order + 1)
  )
  return np.trace(q) - np.trace(p @ log)


@pytest.mark.parametrize(
  "order, ridge, temperature", [(3, 1.0, 1.0), (1, 0.0, 0.5), (4, 0.3, 0.1)]
)
def test_is_the_naive_form(order, ridge, temperature):
  options = {"order": order, "ridge": ridge, "temperature": temperature}
  with jax.enable_x64(True):
    got = MCE(jnp.asarray(LOGITS), jnp.asarray(TARGETS), **options)
    expected = naive(LOGITS, TARGETS, **options)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    chex.assert_numerical_grads(
      jax.jit(lambda x: MCE(x, jnp.asarray(TARGETS), **options)),
      (jnp.asarray(LOGITS),),
      order=1,
      atol=1e-7,
      rtol=1e-6,
      modes=("rev",),
    )
  narrow = MCE(jnp.asarray(LOGITS, jnp.bfloat16), jnp.asarray(TARGETS))
  assert narrow.dtype == jnp.float32


def test_the_trace_is_optional():
  arrays = jnp.asarray(LOGITS), jnp.asarray(TARGETS)
  trace = MCE(*arrays) - MCE(*arrays, plus_trace=False)
  assert 0 < trace < 1


def test_masked_rows_are_as_if_absent():
  mask = np.array([True, False, True, True, False, True])
  with jax.enable_x64(True):
    spoiled = jnp.asarray(np.where(mask[:, None], LOGITS, np.nan))
    f = jax.jit(jax.value_and_grad(lambda x, m: MCE(x, TARGETS, mask=m)))
    value, gradient = f(spoiled, mask)
    expected = jax.jit(jax.value_and_grad(MCE))(
      jnp.asarray(LOGITS[mask]), jnp.asarray(TARGETS[mask])
    )
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(gradient[mask], expected[1], atol=1e-15)
    assert np.all(gradient[~mask] == 0)
    value, gradient = f(spoiled, np.zeros(6, bool))
    assert value == 0 and np.all(gradient == 0)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"order": 0}, "order must be a whole number >= 1"),
    ({"ridge": -1.0}, "ridge must not be negative"),
    ({"temperature": 0.0}, "temperature must be positive"),
    ({"targets": jnp.ones(6)}, "targets must be whole numbers"),
    (
      {"targets": jnp.ones(5, int)},
      r"targets must have the shape \(6,\) of logits' rows, got \(5,\)",
    ),
    ({"mask": jnp.ones((6, 1), bool)}, r"mask must have the shape \(6,\)"),
  ],
)
def test_refuses(options, message):
  arguments = {"logits": jnp.ones((6, 4)), "targets": jnp.ones(6, int)}
  arguments |= options
  with pytest.raises(ValueError, match=message):
    MCE(arguments.pop("logits"), arguments.pop("targets"), **arguments)
