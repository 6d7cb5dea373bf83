"""Moving averages against recorded numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax.objectives import parts

N = 125_100


@pytest.mark.parametrize(
  "dtype, tolerance", [("float64", 1e-12), ("float32", 1e-6)]
)
def test_cosine_momentum_golden(dtype, tolerance):
  # specs/matrix_ssl.md section 2.8, m in float64; the last m has four digits
  # of 1 - m.
  momenta = {
    0: 0.996,
    12_510: 0.9960978869674096,
    62_550: 0.998,
    125_099: 0.9999999999993694,
  }
  with jax.enable_x64(dtype == "float64"):
    rate = jax.jit(parts.cosine_momentum(0.996, N))
    steps = jnp.asarray([*momenta, N, N + 1])
    rates = rate(steps)
    assert rates.dtype == dtype
  np.testing.assert_allclose(
    rates[:3], 1 - np.array(list(momenta.values()))[:3], rtol=tolerance
  )
  np.testing.assert_allclose(rates[3], 1 - momenta[125_099], rtol=1e-3)
  np.testing.assert_allclose(
    rates[3], 0.004 * np.sin(np.pi / 2 / N) ** 2, rtol=tolerance
  )
  np.testing.assert_array_equal(rates[4:], 0)


def test_the_average_moves_by_the_rate():
  average = {"kernel": jnp.ones((2, 2)), "half": jnp.ones(3, jnp.bfloat16)}
  value = {"kernel": jnp.zeros((2, 2)), "half": jnp.zeros(3, jnp.bfloat16)}
  # In bfloat16 a rate of 1e-3 would move nothing.
  moved = parts.ema(average, value, parts.constant_momentum(0.999)(7))
  for leaf in jax.tree.leaves(moved):
    assert leaf.dtype == jnp.float32
    np.testing.assert_allclose(leaf, 0.999, rtol=1e-6)
  for momentum, expected in ((1.0, 1.0), (0.0, 0.0)):
    rate = parts.constant_momentum(momentum)(0)
    np.testing.assert_array_equal(
      parts.ema(average, value, rate)["kernel"], expected
    )
  with jax.enable_x64(True):
    wide = parts.ema(jnp.ones(2), jnp.zeros(2), jnp.float32(0.5))
    assert wide.dtype == jnp.float64


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_momentum_outside_its_range(momentum):
  said = rf"momentum must be in \[0, 1\], got {momentum}"
  with pytest.raises(ValueError, match=said):
    parts.constant_momentum(momentum)
  with pytest.raises(ValueError, match=said):
    parts.cosine_momentum(momentum, 10)
