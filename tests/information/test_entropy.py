"""Joint entropy, mutual information, RankMe: identities, bounds, bad input."""

import functools
import math

import chex
from hypothesis import given, settings, strategies
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax import information

ORDERS = (0.5, 1.0, 2.0, 3.0, math.inf)


@functools.partial(jax.jit, static_argnames="order")
def measure(z1, z2, order):
  k1, k2 = information.cosine_gram(z1), information.cosine_gram(z2)
  return jnp.stack(
    [
      information.matrix_entropy(k1, order=order),
      information.matrix_entropy(k2, order=order),
      information.joint_entropy(k1, k2, order=order),
      information.mutual_information(k1, k2, order=order),
      information.conditional_entropy(k1, k2, order=order),
    ]
  )


def features(seed, rank):
  """Two related [6, 4] branches of a rank, one row of them zero at rank 3."""
  rng = np.random.default_rng(seed)
  z1 = rng.normal(size=(6, rank)) @ rng.normal(size=(rank, 4))
  z2 = z1 + rng.normal() * rng.normal(size=(6, rank)) @ rng.normal(
    size=(rank, 4)
  )
  if rank == 3:
    z1[0] = 0
  return z1, z2


def test_negative_mutual_information_is_not_clamped():
  """The exact example of specs/masked_autoencoders.md 4.6."""
  first, second = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
  expected = {
    2: math.log(0.96),
    3: -0.5 * math.log(1.225),
    1: 0.0849495184,
    0.5: 0.1780214393,
  }
  with jax.enable_x64(True):
    k1, k2 = (
      jnp.asarray(x[:, None] == x, jnp.float64) for x in (first, second)
    )
    for order, value in expected.items():
      got = information.mutual_information(k1, k2, order=order)
      np.testing.assert_allclose(got, value, atol=1e-10)


def test_a_branch_with_itself_is_not_its_entropy():
  """Tan et al.'s "degenerates to entropy" is loose: 4.6 of the spec."""
  with jax.enable_x64(True):
    k = jnp.full((3, 3), 0.5) + 0.5 * jnp.eye(3)
    np.testing.assert_allclose(
      (
        information.mutual_information(k, k),
        information.matrix_entropy(k),
        information.joint_entropy(k, k),
      ),
      (0.6954056861, 0.8675632285, 1.5 * math.log(2)),
      atol=1e-10,
    )


@given(
  seed=strategies.integers(0, 2**32 - 1),
  rank=strategies.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_inequalities(seed, rank):
  z1, z2 = features(seed, rank)
  with jax.enable_x64(True):
    found = {order: np.array(measure(z1, z2, order)) for order in ORDERS}
  before = None
  for order in ORDERS:
    h1, h2, joint, mutual, conditional = found[order]
    assert min(h1, h2) >= -1e-9 and max(h1, h2, joint) <= math.log(6) + 1e-9
    if rank != 3:  # a zero row leaves the diagonal without a one
      assert max(h1, h2) <= joint + 1e-9 and conditional >= -1e-9
      assert mutual <= min(h1, h2) + 1e-9
      if order == 1:
        assert mutual >= -1e-9  # subadditivity holds for order 1
    if before is not None:
      assert np.all(found[order][:3] <= before[:3] + 1e-9)
    before = found[order]


@given(seed=strategies.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_invariances(seed):
  """Rotated features, permuted samples and scaled rows change nothing."""
  z1, z2 = features(seed, 4)
  rng = np.random.default_rng(seed)
  rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
  rows = rng.permutation(6)
  scale = rng.uniform(0.1, 10, size=(6, 1))
  with jax.enable_x64(True):
    for order in (1.0, 2.0):
      np.testing.assert_allclose(
        measure((scale * z1 @ rotation)[rows], (z2 @ rotation)[rows], order),
        measure(z1, z2, order),
        atol=1e-9,
      )


def test_collapse_and_independence():
  with jax.enable_x64(True):
    constant = np.ones((6, 4))
    for order in ORDERS:
      np.testing.assert_allclose(
        measure(constant, constant, order), 0, atol=1e-9
      )
    eye = jnp.eye(6)
    for pairing in (eye, eye[::-1]):  # whatever the pairing of the views
      got = information.mutual_information(
        eye, information.cosine_gram(pairing), order=2
      )
      np.testing.assert_allclose(got, math.log(6))
    assert (
      information.mutual_information_ratio(jnp.ones((3, 3)), jnp.ones((3, 3)))
      == 0
    )
    assert (
      information.entropy_difference_ratio(jnp.eye(3), jnp.ones((3, 3))) == 1
    )
    np.testing.assert_allclose(
      information.mutual_information_ratio(eye, eye), 1
    )


def test_dead_features_and_zero_rows():
  """Finite values and gradients; round-off does not pass for a feature."""
  with jax.enable_x64(False):
    z = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
    z = z.at[:, 1].set(0.1).at[2].set(0.0).at[2, 1].set(0.1)
    k = information.correlation(z)
    assert k[1, 1] == 0 and jnp.all(k[1] == 0) and k[0, 0] == 1

    def joint(z):
      k1, k2 = information.correlation(z), information.cosine_gram(z - 0.1)
      return information.joint_entropy(k1, k1, order=2) + (
        information.joint_entropy(k2, k2, order=2)
      )

    for x in (z, jnp.zeros((8, 3)), jnp.ones((8, 3))):
      value, gradient = jax.jit(jax.value_and_grad(joint))(x)
      assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_nan_stays_nan():
  """What is not a number must not pass for a collapse."""
  z = jnp.ones((4, 3)).at[1, 1].set(jnp.nan)
  for k in (information.cosine_gram(z), information.correlation(z)):
    for order in ORDERS:
      assert np.isnan(information.matrix_entropy(k, order=order))
    assert np.isnan(information.mutual_information_ratio(k, k, order=2))
    assert np.isnan(information.entropy_difference_ratio(k, k, order=2))
  assert np.isnan(information.effective_rank(z))
  assert np.isnan(information.rankme(z))


def test_order_two_has_gradients():
  with jax.enable_x64(True):
    z1, z2 = map(jnp.asarray, features(0, 2))

    def mutual(z1, z2):
      return information.mutual_information(
        information.cosine_gram(z1), information.cosine_gram(z2), order=2
      ) + information.mutual_information(
        information.correlation(z1), information.correlation(z2), order=2
      )

    chex.assert_numerical_grads(mutual, (z1, z2), order=1, atol=1e-5)


def test_rankme():
  z = np.random.default_rng(0).normal(size=(9, 5))
  sigma = np.linalg.svd(z, compute_uv=False)
  p = sigma / sigma.sum() + 1e-7
  with jax.enable_x64(True):
    got = information.rankme(jnp.asarray(z))
    assert np.isfinite(information.rankme(jnp.zeros((4, 3))))
    assert got >= information.effective_rank(jnp.asarray(z))
  np.testing.assert_allclose(got, np.exp(-np.sum(p * np.log(p))), rtol=1e-12)


def test_covariance_and_unit_diagonal():
  z = np.random.default_rng(0).normal(size=(9, 4))
  with jax.enable_x64(True):
    got = information.covariance(jnp.asarray(z))
    np.testing.assert_allclose(got, np.cov(z.T, bias=True), atol=1e-14)
    dual = information.covariance(jnp.asarray(z), side="sample")
    np.testing.assert_allclose(
      np.linalg.eigvalsh(dual)[-4:], np.linalg.eigvalsh(got), atol=1e-13
    )
    np.testing.assert_allclose(
      information.unit_diagonal(got),
      information.correlation(jnp.asarray(z)),
      atol=1e-14,
    )


@pytest.mark.parametrize(
  "values, kind, message",
  [
    (np.ones(3), "any", r"matrix \[rows, columns\], got shape \(3,\)"),
    (np.ones((2, 3)), "any", r"square, got shape \(2, 3\)"),
    (np.ones((0, 0)), "any", "no entries"),
    (np.eye(2, dtype=int), "any", "floating point, got int"),
    (np.diag([1.0, np.nan]), "any", r"finite, got k\[1, 1\] = nan"),
    (np.zeros((2, 2)), "any", "zero matrix"),
    (np.array([[1.0, 0.5], [0.1, 1.0]]), "any", "symmetric, got .* 0.4"),
    (np.array([[1.0, 2.0], [2.0, 1.0]]), "any", "semi-definite, got .* -1"),
    (np.eye(2), "trace", "trace 1, got 2"),
    (np.diag([1.0, 2.0]), "diagonal", r"ones, got k\[1, 1\] = 2"),
    (np.eye(2), "size", "kind must be one of trace, diagonal, any"),
  ],
)
def test_check_density_refuses(values, kind, message):
  with pytest.raises(ValueError, match=message):
    information.check_density(values, kind=kind)


def test_check_density_passes_what_is_one():
  k = np.eye(3) / 3
  assert information.check_density(k) is k
  information.check_density(np.eye(3), kind="diagonal")
  z = jnp.asarray(np.random.default_rng(0).normal(size=(20, 30)), jnp.float32)
  for dtype in (jnp.float32, jnp.bfloat16):
    k = information.cosine_gram(z).astype(dtype)
    information.check_density(k, kind="diagonal")
  np.testing.assert_allclose(
    information.density_matrix(4 * np.eye(2, dtype=np.float32)), np.eye(2) / 2
  )
  with pytest.raises(ValueError, match="outside jit"):
    jax.jit(information.check_density)(jnp.eye(2))


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: information.joint_entropy(jnp.eye(2), jnp.eye(3)),
      r"k2 must have the shape of k1, \(2, 2\), got \(3, 3\)",
    ),
    (
      lambda: information.mutual_information(jnp.eye(2), jnp.eye(2), order=0),
      "order must be a positive number, got 0",
    ),
    (
      lambda: information.joint_entropy(jnp.ones((2, 3)), jnp.ones((2, 3))),
      "k1 must be square",
    ),
    (lambda: information.rankme(jnp.arange(4)), "z must be a matrix"),
    (
      lambda: information.correlation(jnp.ones((2, 2), int)),
      "z must be floating point, got int32",
    ),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_bfloat16_gives_float32():
  z = jnp.ones((4, 3), jnp.bfloat16)
  k = information.cosine_gram(z)
  assert k.dtype == jnp.float32
  assert (
    information.joint_entropy(
      k.astype(jnp.bfloat16), k.astype(jnp.bfloat16)
    ).dtype
    == jnp.float32
  )
  assert information.rankme(z).dtype == jnp.float32
