"""The constant c(dim, kappa): mpmath, the specification's table, gradients."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from mmae_jax.information.von_mises_fisher import (
  von_mises_fisher_log_normaliser as log_normaliser,
)

# dim, kappa, true c, c with 1e-7 added to the Bessel function.
TABLE = [
  (16, 10, 4.05730, 4.05730),
  (32, 10, -7.39254, -7.39254),
  (64, 10, -39.99545, -28.68616),
  (128, 1, -127.04955, 101.50604),
  (128, 2, -127.03783, 57.83776),
  (128, 5, -126.95587, 0.11145),
  (128, 10, -126.66400, -43.55682),
  (128, 20, -125.50917, -87.22510),
  (128, 50, -117.90686, -117.90686),
  (256, 10, -344.13971, -73.29814),
  (256, 50, -339.54014, -277.69675),
  (256, 100, -326.04867, -326.04867),
  (512, 10, -867.87047, -132.78077),
  (1000, 10, -2032.00776, -246.16952),
  (2048, 10, -4898.35945, -489.67653),
]
DIMS = [2, 8, 9, 64, 128, 512, 4096, 65536]
KAPPAS = [0.125, 1.0, 10.0, 100.0, 1000.0, 10000.0]


def series(order, kappa):
  """0F1(; order; kappa^2 / 4)."""
  return mpmath.hyp0f1(order, mpmath.mpf(kappa) ** 2 / 4, maxterms=10**6)


@functools.cache
def exact(dim, kappa):
  """c and dc/dkappa in forty digits."""
  with mpmath.workdps(40):
    half = mpmath.mpf(dim) / 2
    s = series(half, kappa)
    area = 2 * mpmath.pi**half / mpmath.gamma(half)
    c = mpmath.log(area) + mpmath.log(s)
    return float(c), float(
      kappa / mpmath.mpf(dim) * series(half + 1, kappa) / s
    )


@pytest.mark.parametrize(("dim", "kappa", "true", "floored"), TABLE)
def test_table(dim, kappa, true, floored):
  assert abs(log_normaliser(dim, kappa) - true) < 6e-6
  got = log_normaliser(dim, kappa, bessel_floor=1e-7)
  assert isinstance(got, float)
  assert abs(got - floored) < 6e-6


@pytest.mark.parametrize("dim", DIMS)
def test_number(dim):
  """Log-series, scipy and Debye's expansion: 65536 and 4096 need all."""
  for kappa in [*KAPPAS, 3000.0]:
    np.testing.assert_allclose(
      log_normaliser(dim, kappa), exact(dim, kappa)[0], rtol=4e-15
    )


@pytest.mark.parametrize("dim", [2, 8, 33, 128, 65536])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_and_derivative(dim, dtype):
  """The derivative too, where sixty levels of a fraction are too few."""
  with jax.enable_x64(dtype == "float64"):
    slope = jax.grad(lambda kappa: log_normaliser(dim, kappa))
    kappas = jnp.asarray(KAPPAS, dtype)
    c, ratio = jax.jit(lambda x: (log_normaliser(dim, x), jax.vmap(slope)(x)))(
      kappas
    )
    assert c.dtype == ratio.dtype == dtype
  expected = np.array([exact(dim, kappa) for kappa in KAPPAS])
  exactly = dtype == "float64"
  # c is the sum of the log area and log S, each of them rounded.
  area = abs(log_normaliser(dim, 1e-12))
  np.testing.assert_allclose(
    c,
    expected[:, 0],
    rtol=1e-14 if exactly else 3e-7,
    atol=area * (3e-16 if exactly else 1e-7),
  )
  np.testing.assert_allclose(
    ratio, expected[:, 1], rtol=3e-15 if exactly else 4e-7
  )


def test_numerical_gradients():
  @jax.jit
  def total(kappa):
    floored = log_normaliser(64, kappa, bessel_floor=1e-7)
    return log_normaliser(8, kappa) + log_normaliser(129, kappa) + floored

  with jax.enable_x64(True):
    kappa = jnp.asarray(7.0)
    chex.assert_numerical_grads(total, (kappa,), order=1, atol=1e-6)


@pytest.mark.parametrize("dim", [3, 200])
def test_second_derivative(dim):
  """A' = 1 - A^2 - (dim - 1) A / kappa, and the first is A."""
  with jax.enable_x64(True):
    slope = jax.grad(functools.partial(log_normaliser, dim))
    a, curvature = jax.jit(jax.value_and_grad(slope))(jnp.asarray(30.0))
  a = float(a)
  np.testing.assert_allclose(
    curvature, 1 - a * a - (dim - 1) * a / 30, rtol=1e-9
  )


def test_closed_forms():
  """Two points, the sphere in space, and the area as kappa vanishes."""
  cosh = math.log(2 * math.cosh(3))
  np.testing.assert_allclose(log_normaliser(1, 3), cosh, rtol=1e-14)
  sinh = math.log(4 * math.pi * math.sinh(3) / 3)
  np.testing.assert_allclose(log_normaliser(3, 3.0), sinh, rtol=1e-14)
  for dim, log_area in (
    (128, -127.0535),
    (256, -344.3349),
    (512, -867.9681),
    (1000, -2032.0578),
  ):
    assert abs(log_normaliser(dim, 1e-9) - log_area) < 6e-5


def test_the_floor_of_an_array():
  with jax.enable_x64(True):
    got = jax.jit(lambda k: log_normaliser(64, k, bessel_floor=1e-7))(
      jnp.asarray([10.0, 50.0])
    )
  expected = [log_normaliser(64, k, bessel_floor=1e-7) for k in (10.0, 50.0)]
  np.testing.assert_allclose(got, expected, rtol=1e-13)
  c = jax.eval_shape(
    lambda k: log_normaliser(64, k), jnp.asarray(10.0, jnp.bfloat16)
  )
  assert c.dtype == jnp.float32


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: log_normaliser(0, 1.0), "dim must be a positive integer, got 0"),
    (lambda: log_normaliser(8.0, 1.0), "dim must be .* got 8.0"),
    (lambda: log_normaliser(8, 0.0), "kappa must be positive .* got 0.0"),
    (lambda: log_normaliser(8, math.nan), "kappa must be positive .* nan"),
    (lambda: log_normaliser(8, math.inf), "positive and finite, got inf"),
    (lambda: log_normaliser(8, jnp.arange(3)), "floating-point .* got dtype"),
    (lambda: log_normaliser(8, 1.0, bessel_floor=0), "bessel_floor .* got 0"),
  ],
)
def test_refusals(call, message):
  with pytest.raises(ValueError, match=message):
    call()
