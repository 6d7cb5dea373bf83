"""The expected bias of entropies, against simulation; the warning."""

import math
import warnings

import numpy as np
import pytest

from mmae_jax.information import bias


def simulated(samples, dim, repeats):
  """Means of H_1, H_2 and ||Z^T Z / n||_F^2, and their standard errors."""
  z = np.random.default_rng(samples).normal(size=(repeats, samples, dim))
  z /= np.linalg.norm(z, axis=-1, keepdims=True)
  if samples < dim:
    k = z @ z.swapaxes(1, 2) / samples
  else:
    k = z.swapaxes(1, 2) @ z / samples
  p = np.linalg.eigvalsh(k)
  p = np.where(p > 1e-14, p, 1)
  squares = np.sum(k * k, axis=(1, 2))
  values = np.stack([-np.sum(p * np.log(p), 1), -np.log(squares), squares])
  return values.mean(1), values.std(1) / repeats**0.5


@pytest.mark.parametrize(
  ("samples", "dim", "repeats"),
  [
    (2, 2, 4000),
    (8, 2, 2000),
    (3, 50, 1000),
    (16, 16, 500),
    (64, 8, 500),
    (8, 64, 500),
    (96, 64, 60),
    (64, 96, 60),
    (1, 9, 2),
  ],
)
def test_against_simulation(samples, dim, repeats):
  (first, second, squares), errors = simulated(samples, dim, repeats)
  largest = max(samples, dim)
  expected = math.log(dim) + bias.entropy_bias(samples, dim)
  assert abs(first - expected) < 0.35 / largest + 4 * errors[0]
  expected = math.log(dim) + bias.entropy_bias(samples, dim, order=2)
  noise = 4 * errors[1] + 1e-12
  assert -noise < second - expected < 0.08 / largest + noise
  # What order 2 rests on is exact.
  assert abs(squares - np.exp(-expected)) < 4 * errors[2] + 1e-12


def test_limits():
  assert bias.entropy_bias(5, 1) == bias.entropy_bias(5, 1, order=2) == 0
  assert bias.entropy_bias(1, 8) == -math.log(8)
  np.testing.assert_allclose(
    bias.entropy_bias(1, 8, order=2), -math.log(8), rtol=1e-15
  )
  values = [bias.entropy_bias(n, 16) for n in range(1, 200)]
  assert np.all(np.diff(values) > 0)
  # Page's limit for many samples and features, log m - m / (2 M).
  np.testing.assert_allclose(bias.entropy_bias(40000, 4000), -0.05, rtol=1e-3)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dim", [1, 2, 7, 768])
@pytest.mark.parametrize("tolerance", [0.01, 0.3, 2.0])
def test_samples_for_is_the_least_number(dim, tolerance, order):
  n = bias.samples_for(dim, tolerance=tolerance, order=order)
  assert -bias.entropy_bias(n, dim, order=order) <= tolerance
  if n > 1:
    assert -bias.entropy_bias(n - 1, dim, order=order) > tolerance


def test_warning():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    fine = bias.warn_of_bias(8192, 768, tolerance=0.1)
  assert fine == bias.entropy_bias(8192, 768)
  with pytest.warns(bias.BiasWarning, match="512 samples in 768") as caught:
    low = bias.warn_of_bias(512, 768, tolerance=0.1)
  assert low == bias.entropy_bias(512, 768)
  assert f"take {bias.samples_for(768, tolerance=0.1)} samples" in str(
    caught[0].message
  )
  assert caught[0].filename == __file__


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: bias.entropy_bias(0, 3), "samples must be .* >= 1, got 0"),
    (lambda: bias.entropy_bias(4, 2.5), "dim must be .* got 2.5"),
    (lambda: bias.entropy_bias(4, 2, order=3), "order must be 1 or 2, got 3"),
    (lambda: bias.samples_for(4, tolerance=0), "tolerance .* got 0"),
    (lambda: bias.warn_of_bias(True, 2), "got True"),
  ],
)
def test_refusals(call, message):
  with pytest.raises(ValueError, match=message):
    call()
