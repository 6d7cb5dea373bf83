"""Golden values of specs/masked_autoencoders.md, section 8.

They were recorded by running the authors' functions in float64.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax import information

ROW, COLUMN = np.arange(16)[:, None], np.arange(8)[None, :]
F = np.sin(0.37 * (ROW + 1) * (COLUMN + 1)) + 0.25 * np.cos(1.3 * ROW)
G = F + 0.3 * np.cos(0.9 * ROW * (COLUMN + 2))

LOSSES = {
  "scale 1": (
    lambda z: -information.coding_rate(z),
    (-1.7813350289, 0.0001841198, 0.0101219519),
  ),
  "scale 1, centred": (
    lambda z: -information.coding_rate(z, centre=True),
    (-1.7807784201, 0.0008627095, 0.0120175510),
  ),
  "scale 3": (
    lambda z: -information.coding_rate(z, scale=3.0),
    (-4.4601252744, 0.0007596606, 0.0437418969),
  ),
  "scale 3, centred": (
    lambda z: -information.coding_rate(z, scale=3.0, centre=True),
    (-4.4589477865, 0.0022417751, 0.0457805364),
  ),
  "squared cosine": (
    information.mean_squared_cosine,
    (0.1280995677, 0.0001587724, 0.0083964217),
  ),
}

# order: H(K1), H(K2), H(K1 o K2), I of the sample Gram matrices; then of the
# feature correlations.
ENTROPIES = {
  1.0: (
    (2.0681002, 2.0422108, 2.4080782, 1.7022329),
    (2.0646880, 2.0015419, 2.0789526, 1.9872773),
  ),
  2.0: (
    (2.0549474, 2.0066911, 2.2860464, 1.7755922),
    (2.0472128, 1.9181156, 2.0784496, 1.8868787),
  ),
  0.5: ((2.0739921, 2.0606980, 2.5452318, 1.5894583), None),
  3.0: ((2.0399991, 1.9739982, 2.2404390, 1.7735583), None),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses(name, dtype):
  loss, (value, first, norm) = LOSSES[name]
  with jax.enable_x64(dtype == "float64"):
    z = jnp.asarray(F, dtype)
    got, grad = jax.jit(jax.value_and_grad(loss))(z)
    assert got.dtype == dtype
  exact = dtype == "float64"
  np.testing.assert_allclose(got, value, rtol=1e-9 if exact else 1e-6)
  np.testing.assert_allclose(
    np.linalg.norm(np.asarray(grad, np.float64)),
    norm,
    rtol=1e-7 if exact else 1e-4,
  )
  np.testing.assert_allclose(
    grad[0, 0], first, rtol=1e-6 if exact else 1e-4, atol=1e-10
  )


@pytest.mark.parametrize("order", ENTROPIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_entropies(order, dtype):
  with jax.enable_x64(dtype == "float64"):
    z = jnp.asarray(F, dtype), jnp.asarray(G, dtype)
    for matrix, expected in zip(
      (information.cosine_gram, information.correlation),
      ENTROPIES[order],
      strict=True,
    ):
      if expected is None:
        continue
      k1, k2 = map(matrix, z)
      got = (
        information.matrix_entropy(k1, order=order),
        information.matrix_entropy(k2, order=order),
        information.joint_entropy(k1, k2, order=order),
        information.mutual_information(k1, k2, order=order),
      )
      np.testing.assert_allclose(
        got, expected, atol=1e-7 if dtype == "float64" else 5e-6
      )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_effective_rank(dtype):
  with jax.enable_x64(dtype == "float64"):
    got = information.effective_rank(jnp.asarray(F, dtype))
  np.testing.assert_allclose(got, 7.909782, rtol=2e-6)


def test_strength_of_the_published_settings():
  """The value range of section 3.3, collapse to isotropy, ViT-B."""
  with jax.enable_x64(True):
    collapsed = jnp.ones((1024, 768))
    rate = information.coding_rate(collapsed)
    np.testing.assert_allclose(rate, np.log(1 + 1024 / 768), rtol=1e-12)
    np.testing.assert_allclose(rate, 0.8472978604, rtol=1e-9)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4)])
@pytest.mark.parametrize(
  "function",
  [
    information.coding_rate,
    lambda z: information.coding_rate(z, scale=2.0, normaliser="paper"),
    lambda z: information.coding_rate(z, normaliser="batch", centre=True),
    information.mean_squared_cosine,
    lambda z: information.matrix_entropy(information.gram(z), order=2),
  ],
)
def test_numerical_gradients(function, shape):
  with jax.enable_x64(True):
    z = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    chex.assert_numerical_grads(function, (z,), order=1, atol=1e-5)
