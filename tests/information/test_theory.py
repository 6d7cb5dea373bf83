"""The papers' statements on 1,000 random draws each, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax import information
from mmae_jax.information import bounds, theory

DRAWS, BATCH, DIM = 1000, 7, 4


def draws(batch=BATCH, dim=DIM):
  """Pairs of branches, from equal to unrelated, of every rank and spread."""
  rng = np.random.default_rng(0)
  rank = rng.integers(1, dim + 1, size=DRAWS)
  keep = np.arange(dim) < rank[:, None]
  z1 = rng.normal(size=(DRAWS, batch, dim)) * keep[:, None]
  z1 += rng.exponential(size=(DRAWS, 1, 1)) * rng.normal(size=(DRAWS, 1, dim))
  noise = 10.0 ** rng.uniform(-4, 1, size=(DRAWS, 1, 1))
  return z1, z1 + noise * rng.normal(size=z1.shape)


def gram(function):
  return lambda z1, z2: function(information.cosine_gram(z1))


def grams(function):
  return lambda z1, z2: function(
    information.cosine_gram(z1), information.cosine_gram(z2)
  )


EQUAL = {
  "entropy is KL": gram(theory.entropy_as_divergence),
  "coding rate is KL": gram(
    lambda k: theory.coding_rate_as_divergence(k, mu=0.7)
  ),
  "TCR is MCE": lambda z1, z2: theory.coding_rate_as_cross_entropy(
    z1, ridge=0.3
  ),
  "TCR is MKL": lambda z1, z2: theory.coding_rate_as_kl(z1, ridge=0.3),
  "erank is KL": lambda z1, z2: theory.effective_rank_as_divergence(z1),
}
AT_MOST = {
  "coding rate": lambda z1, z2: theory.coding_rate_cap(z1, mu=0.5),
  "mutual information, order 1": grams(theory.mutual_information_cap),
  "mutual information, order 2": grams(
    lambda k1, k2: theory.mutual_information_cap(k1, k2, order=2)
  ),
  "mutual information, order 1/2": grams(
    lambda k1, k2: theory.mutual_information_cap(k1, k2, order=0.5)
  ),
  "joint entropy and rank": grams(theory.joint_entropy_rank_cap),
  "InfoNCE": bounds.info_nce_cap,
}


def on_all(function, *arrays):
  with jax.enable_x64(True):
    # Not vmap: several batched eigh calls in one program can wait for one
    # another for ever on a CPU (jaxlib 0.10.2).
    return jax.tree.map(
      np.asarray,
      jax.jit(lambda *x: jax.lax.map(lambda one: function(*one), x))(
        *map(jnp.asarray, arrays)
      ),
    )


@pytest.mark.parametrize("name", EQUAL)
def test_equalities(name):
  left, right = on_all(EQUAL[name], *draws())
  np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", AT_MOST)
def test_caps(name):
  left, right = on_all(AT_MOST[name], *draws())
  assert np.all(left <= right + 1e-9)


@pytest.mark.parametrize(
  "function", [bounds.spectral_bounds, bounds.barlow_bounds]
)
@pytest.mark.parametrize("weight", [0.0051, 1.0])
def test_lower_bounds_of_the_losses(function, weight):
  found = on_all(lambda *z: function(*z, weight=weight), *draws(12, 3))
  for left, right in found:
    assert np.all(left >= right - 1e-9)


def test_lower_bounds_are_tight_at_zero_loss():
  with jax.enable_x64(True):
    for function, z in (
      (bounds.spectral_bounds, jnp.eye(4)),
      # Centred orthogonal columns: the correlation matrix is I.
      (
        bounds.barlow_bounds,
        jnp.asarray([[1, 1], [1, -1], [-1, 1], [-1, -1.0]]),
      ),
    ):
      for left, right in function(z, z):
        np.testing.assert_allclose(left, right, atol=1e-9)


def test_umae_is_the_second_order_of_mmae():
  """0 <= rate - second order <= tr X^3 / 3, and the spec's two cases."""
  (left, right), bound = on_all(
    lambda z1, z2: theory.umae_as_second_order(z1, scale=0.8), *draws()
  )
  assert np.all(left - right >= -1e-12)
  assert np.all(left - right <= bound + 1e-12)
  with jax.enable_x64(True):
    (left, right), _ = theory.umae_as_second_order(jnp.ones((1024, 768)))
    np.testing.assert_allclose((left, right), (0.8472978604, 4 / 9), rtol=1e-8)
    z = np.random.default_rng(0).normal(size=(1024, 768))
    (left, right), bound = theory.umae_as_second_order(jnp.asarray(z))
    np.testing.assert_allclose((left, right), (1.331313, 1.331308), atol=5e-6)
    assert bound < 1e-5


def test_tcr_conversions():
  """One number under the letters of three papers."""
  z = jnp.asarray(draws()[0][0], jnp.float32)
  batch, dim = z.shape
  distortion = 0.4
  scale = information.scale_from_epsilon_squared(
    distortion, batch=batch, dim=dim
  )
  tcr = information.total_coding_rate(z, epsilon_squared=distortion)
  rate = information.coding_rate(z, scale=scale)
  np.testing.assert_allclose(2 * tcr, rate, rtol=1e-5)
  mu = information.paper_scale(scale, dim=dim)
  assert information.paper_scale(mu, dim=dim) == pytest.approx(scale)
  paper = information.coding_rate(z, scale=mu, normaliser="paper")
  np.testing.assert_allclose(paper - dim * np.log(mu), rate, rtol=1e-5)
  ridge = information.ridge_from_epsilon_squared(distortion, dim=dim)
  c = information.covariance(information.normalise_rows(z), centre=False)
  log_det = np.linalg.slogdet(np.eye(dim) + c / ridge)[1]
  np.testing.assert_allclose(rate, log_det, rtol=1e-5)
  # Matrix-SSL's ridge 1 at dim 2048; the published settings of M-MAE.
  assert information.ridge_from_epsilon_squared(2048, dim=2048) == 1
  assert information.paper_scale(3.0, dim=1024) == pytest.approx(341.333, 1e-5)
  weight = information.umae_weight(1.0, scale=1.0, batch=1024, dim=768)
  assert weight == pytest.approx(0.889, abs=1e-3)


def test_er_bound():
  rng = np.random.default_rng(0)
  joint = rng.dirichlet(np.full(12, 0.3), size=DRAWS).reshape(-1, 3, 4)
  q = rng.dirichlet(np.ones(4), size=(DRAWS, 3))
  (mutual, bound), gap = on_all(bounds.entropy_reconstruction_bound, joint, q)
  assert np.all(gap >= -1e-12) and np.all(mutual >= -1e-12)
  np.testing.assert_allclose(mutual - bound, gap, atol=1e-10)
  # The true conditional closes the gap.
  true = joint / joint.sum(2, keepdims=True)
  _, gap = on_all(bounds.entropy_reconstruction_bound, joint, true)
  np.testing.assert_allclose(gap, 0, atol=1e-12)


def test_er_counter_example():
  """Independent branches, and yet the kernel estimate is positive."""
  with jax.enable_x64(True):
    true, limit = bounds.entropy_reconstruction_counter_example()
    assert true == 0
    np.testing.assert_allclose(limit, 0.086, atol=5e-4)
    # The estimate itself on many samples: half of Z2 on either side of u.
    angle, half = 0.3, 500
    side = np.repeat([1.0, -1.0], half)
    z2 = np.stack(
      [np.full(2 * half, np.cos(angle)), side * np.sin(angle)], axis=1
    )
    z1 = np.broadcast_to([1.0, 0.0], z2.shape)
    estimate = information.vmf_entropy(
      jnp.asarray(z2), kappa=10.0, estimator="joe"
    ) - information.vmf_reconstruction(
      jnp.asarray(z1), jnp.asarray(z2), kappa=10.0
    )
    np.testing.assert_allclose(estimate, limit, atol=1e-9)


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: theory.coding_rate_as_divergence(jnp.eye(2), mu=0.0),
      "mu must be positive, got 0.0",
    ),
    (
      lambda: bounds.spectral_loss(jnp.ones((2, 3)), jnp.ones((3, 3))),
      "z2 must have the shape of z1",
    ),
    (
      lambda: bounds.info_nce_cap(jnp.eye(2), jnp.eye(2), temperature=0),
      "temperature must be positive, got 0",
    ),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
