"""References in NumPy, identities, invariances, and inputs that are refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax import information

RNG = np.random.default_rng(0)


def normalised(z):
  return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def reference_rate(z, scale, centre, normaliser):
  """log det from the paper's formula, by slogdet on the feature side."""
  z = normalised(z)
  batch, dim = z.shape
  g = z.T @ z
  if centre:
    g = z.T @ (np.eye(batch) - np.ones((batch, batch)) / batch) @ z
  if normaliser == "paper":
    return np.linalg.slogdet(scale * np.eye(dim) + g)[1]
  size = {"feature_dim": dim, "batch": batch}[normaliser]
  return np.linalg.slogdet(np.eye(dim) + scale / size * g)[1]


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (6, 6), (1, 4)])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("normaliser", ["feature_dim", "batch", "paper"])
def test_coding_rate(shape, centre, normaliser):
  z = RNG.normal(size=shape)
  with jax.enable_x64(True):
    got = information.coding_rate(
      jnp.asarray(z), scale=0.7, centre=centre, normaliser=normaliser
    )
  expected = reference_rate(z, 0.7, centre, normaliser)
  np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def test_normaliser_conversions():
  """mu_paper = dim / mu_program; batch scale = feature_dim scale * B / d."""
  z = jnp.asarray(RNG.normal(size=(12, 5)), jnp.float32)
  paper = information.coding_rate(z, scale=5 / 0.7, normaliser="paper")
  ours = information.coding_rate(z, scale=0.7)
  np.testing.assert_allclose(paper, ours + 5 * math.log(5 / 0.7), rtol=1e-6)
  batch = information.coding_rate(z, scale=0.7 * 12 / 5, normaliser="batch")
  np.testing.assert_allclose(batch, ours, rtol=1e-6)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_mean_squared_cosine(shape):
  z = RNG.normal(size=shape)
  cosines = normalised(z) @ normalised(z).T
  got = information.mean_squared_cosine(jnp.asarray(z, jnp.float32))
  np.testing.assert_allclose(got, np.mean(cosines**2), rtol=1e-6)


@pytest.mark.parametrize("order", [0.5, 1, 2, 3, 7.5, math.inf])
def test_matrix_entropy(order):
  z = RNG.normal(size=(9, 9))
  k = z @ z.T
  p = np.linalg.eigvalsh(k / np.trace(k))
  if order == 1:
    expected = -np.sum(p * np.log(p))
  elif math.isinf(order):
    expected = -np.log(p.max())
  else:
    expected = np.log(np.sum(p**order)) / (1 - order)
  with jax.enable_x64(True):
    got = information.matrix_entropy(jnp.asarray(k), order=order)
    # Unit trace, unit diagonal or neither: the scale does not matter.
    scaled = information.matrix_entropy(17 * jnp.asarray(k), order=order)
  np.testing.assert_allclose(got, expected, rtol=1e-10)
  np.testing.assert_allclose(scaled, expected, rtol=1e-10)


@pytest.mark.parametrize("order", [0.5, 1, 2, 3, math.inf])
def test_entropy_range(order):
  identity = information.matrix_entropy(jnp.eye(6), order=order)
  np.testing.assert_allclose(identity, math.log(6), rtol=1e-6)
  rank_one = information.matrix_entropy(jnp.ones((6, 6)), order=order)
  np.testing.assert_allclose(rank_one, 0, atol=1e-6)


def test_rotation_permutation_scale():
  z = jnp.asarray(RNG.normal(size=(12, 5)), jnp.float32)
  q = jnp.asarray(np.linalg.qr(RNG.normal(size=(5, 5)))[0], jnp.float32)
  rows = RNG.permutation(12)
  lengths = jnp.asarray(RNG.uniform(0.1, 9, (12, 1)), jnp.float32)
  for function in (
    information.coding_rate,
    information.mean_squared_cosine,
    information.effective_rank,
  ):
    np.testing.assert_allclose(
      function((lengths * z @ q)[rows]), function(z), rtol=2e-5
    )


def test_effective_rank_of_orthogonal_and_collapsed_features():
  np.testing.assert_allclose(
    information.effective_rank(jnp.eye(7)), 7, rtol=1e-5
  )
  np.testing.assert_allclose(
    information.effective_rank(jnp.ones((7, 5))), 1, rtol=1e-5
  )


def test_the_smaller_side_has_the_same_spectrum():
  z = RNG.normal(size=(5, 12))
  wide = information.feature_spectrum(jnp.asarray(z, jnp.float32))
  whole = information.spectrum(
    information.gram(
      information.normalise_rows(jnp.asarray(z, jnp.float32)), side="feature"
    )
  )
  np.testing.assert_allclose(wide, whole[:5], rtol=1e-5)
  np.testing.assert_allclose(whole[5:], 0)


@pytest.mark.parametrize(
  "rows",
  [
    np.zeros((4, 3)),
    np.ones((4, 3)),
    np.eye(4, 3) * 1e-30,
    np.eye(4, 3) * 1e30,
  ],
)
def test_zero_rows_collapse_and_extreme_lengths_are_finite(rows):
  z = jnp.asarray(rows, jnp.float32)
  for function in (
    information.coding_rate,
    lambda z: information.coding_rate(z, centre=True),
    information.mean_squared_cosine,
    lambda z: information.matrix_entropy(information.gram(z / 1e20), order=2),
  ):
    value, grad = jax.value_and_grad(function)(z)
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))
  assert np.isfinite(information.effective_rank(z))


def test_bfloat16_gives_float32():
  z = jnp.asarray(RNG.normal(size=(8, 4)), jnp.bfloat16)
  for function in (
    information.coding_rate,
    information.mean_squared_cosine,
    information.effective_rank,
    lambda z: information.matrix_entropy(z.T @ z),
  ):
    assert function(z).dtype == jnp.float32


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: information.coding_rate(jnp.ones(3)), "z must be a matrix"),
    (lambda: information.coding_rate(jnp.ones((0, 3))), "no entries"),
    (
      lambda: information.coding_rate(jnp.ones((2, 3), jnp.int32)),
      "floating point, got int32",
    ),
    (lambda: information.coding_rate(jnp.eye(3), scale=0), "got 0"),
    (
      lambda: information.coding_rate(jnp.eye(3), normaliser="dim"),
      "feature_dim, batch, paper, got 'dim'",
    ),
    (lambda: information.matrix_entropy(jnp.ones((2, 3))), "square"),
    (lambda: information.matrix_entropy(jnp.eye(3), order=0), "got 0"),
    (lambda: information.gram(jnp.eye(3), side="row"), "got 'row'"),
  ],
)
def test_refusals(call, message):
  with pytest.raises(ValueError, match=message):
    call()
