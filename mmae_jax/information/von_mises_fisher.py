"""The normaliser of the von Mises-Fisher density, for every dim and kappa.

The Bessel function of the textbook formula leaves every floating-point range
(10^-110827 at dim 65536, kappa 10). What is computed here is the logarithm of

    S(kappa) = 0F1(; dim/2; kappa^2 / 4),    0 <= log S <= kappa,

so that the constant is the log of the sphere's area plus log S, and nothing
cancels: log I_v(kappa) = v log(kappa / 2) - log Gamma(v + 1) + log S, with the
order v = dim/2 - 1. Three methods, chosen by size: the log-series,
`scipy.special.ive`, and Debye's expansion, which is uniform in kappa and
reaches small orders by recurrence.
"""

from fractions import Fraction
import functools
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from mmae_jax.information import spectra

# With eight terms, Debye's expansion is exact to the rounding of float64 (an
# error of 2e-13 at log S = 1000) from this order up, at every kappa.
_DEBYE_TERMS = 8
_DEBYE_ORDER = 24


def check_kappa(kappa):
  """Raises ValueError unless kappa is a positive number or a float array."""
  if isinstance(kappa, numbers.Real):
    if not (kappa > 0 and math.isfinite(kappa)):
      raise ValueError(f"kappa must be positive and finite, got {kappa!r}")
  elif not jnp.issubdtype(jnp.result_type(kappa), jnp.floating):
    raise ValueError(
      "kappa must be a number or a floating-point array, got dtype "
      f"{jnp.result_type(kappa)}"
    )


@functools.cache
def _debye_slopes():
  """Exact coefficients of G_1, G_2, ... in powers of t, lowest first.

  G = sum_k G_k(t) / order^k is the derivative of the logarithm of Debye's sum
  sum_k u_k(t) / order^k. From DLMF 10.41.9, written for the logarithm:
  G_1 = (1 - 5 t^2) / 8,   h = t^2 (1 - t^2) / 2,
  G_{k+1} = (h G_k)' + h sum_{i+j=k} G_i G_j.
  """
  h = np.array([0, 0, Fraction(1, 2), 0, Fraction(-1, 2)], dtype=object)
  slopes = [np.array([Fraction(1, 8), 0, Fraction(-5, 8)], dtype=object)]
  while len(slopes) < _DEBYE_TERMS:
    product = np.convolve(h, slopes[-1])
    total = product[1:] * np.arange(1, len(product))
    for left, right in zip(slopes, slopes[-2::-1], strict=False):
      total = total + np.convolve(h, np.convolve(left, right))
    slopes.append(total)
  return slopes


def _debye(kappa, order, xp):
  """log S and I_{order+1} / I_order by Debye's expansion, order not small.

  DLMF 10.41.3 less the leading factor of the power series: with
  z = kappa / order, s = sqrt(1 + z^2), t = 1 / s and L' = G,
  log S = order (s - 1 - log((s + 1) / 2)) + log(t) / 2 + L(t) - L(1).
  """
  slope = np.zeros(3 * _DEBYE_TERMS)
  for power, coefficients in enumerate(_debye_slopes(), 1):
    slope[: len(coefficients)] += coefficients.astype(float) / order**power
  antiderivative = slope / np.arange(1, len(slope) + 1)
  z = kappa / order
  s = xp.sqrt(1.0 + z * z)
  t = 1.0 / s
  above = z * (z / (1.0 + s))  # s - 1, without its cancellation
  level, tilt = 0.0, 0.0
  for whole, part in zip(antiderivative[::-1], slope[::-1], strict=True):
    level = level * t + float(whole)
    tilt = tilt * t + float(part)
  log_s = order * (above - xp.log1p(above / 2.0)) + xp.log(t) / 2.0
  log_s = log_s + t * level - float(antiderivative.sum())
  ratio = z / (1.0 + s) - z * t**2 / order * (0.5 + t * tilt)
  return log_s, ratio


def _descend(kappa, order):
  """log S and I_{order+1} / I_order for an array kappa, by recurrence.

  Debye's expansion at order + levels starts the continued fraction, so the
  number of levels depends on the order alone and not on kappa. Every term
  added to log S is positive.
  """
  levels = max(0, math.ceil(_DEBYE_ORDER - order))
  log_s, ratio = _debye(kappa, order + levels, jnp)
  for level in range(levels, 0, -1):
    twice = 2.0 * (order + level)
    log_s = log_s + jnp.log1p(kappa * ratio / twice)
    ratio = kappa / (twice + kappa * ratio)
  return log_s, ratio


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_s(kappa, order):
  """log S of an array kappa; its derivative is I_{order+1} / I_order."""
  return _descend(kappa, order)[0]


@_log_s.defjvp
def _log_s_jvp(order, primals, tangents):
  log_s, ratio = _descend(primals[0], order)
  return log_s, ratio * tangents[0]


def _log_s_on_host(kappa, order):
  """log S of a number kappa, in float64."""
  if kappa <= max(50.0, order):
    # The largest term is the (sqrt(order^2 + kappa^2) - order)/2-th.
    m = np.arange(1, 64 + math.ceil(kappa))
    factors = 2 * math.log(kappa / 2) - np.log(m) - np.log(order + m)
    return float(special.logsumexp(np.append(np.cumsum(factors), 0.0)))
  scaled = float(special.ive(order, kappa))
  if scaled > np.finfo(float).tiny:
    leading = order * math.log(kappa / 2) - math.lgamma(order + 1)
    return math.log(scaled) + kappa - leading
  return float(_debye(kappa, order, np)[0])


def log_sphere_area(dim):
  """log of the area of the unit sphere in `dim` dimensions, in nats."""
  return dim / 2 * math.log(math.pi) + math.log(2) - math.lgamma(dim / 2)


def von_mises_fisher_log_normaliser(dim, kappa, *, bessel_floor=None):
  """Constant c of the von Mises-Fisher density on the unit sphere.

      density(z) = exp(kappa <mean, z> - c),
      c = (dim/2) log(2 pi) - v log kappa + log I_v(kappa),  v = dim/2 - 1
        = log area of the sphere + log 0F1(; dim/2; kappa^2 / 4),
      dc/dkappa = I_{v+1}(kappa) / I_v(kappa)

  A number kappa gives a number, computed on the host in float64 when a
  program is traced and constant in it: exact to 1e-14 of c (log-series for
  kappa <= max(50, v), else `scipy.special.ive`, else Debye's expansion). An
  array kappa may be traced and differentiated, also twice: Debye's expansion
  at an order of 24 or more and a recurrence from there down to v, at every
  kappa; the log-series would need a number of terms that grows with kappa.

  Args:
    dim: dimension of the space around the sphere, a positive integer.
    kappa: concentration, positive; a number, or a floating-point array of any
      shape, the values of which are not checked.
    bessel_floor: None, or the positive number that is added to I_v inside the
      logarithm. The authors' program does that with 1e-7, which moves c by
      +83 nats at dim 128, kappa 10: for comparison with their logs only.
  Returns:
    c in nats: a float for a number kappa, else an array of kappa's shape, at
    least float32 (there, c has the rounding of its terms, 1e-7 of the log
    area or of log S, and dc/dkappa a relative error below 4e-7).
  Raises:
    ValueError: dim is not a positive integer, kappa or bessel_floor is not
      positive, or kappa is an integer array.
  Source:
    Mardia and Jupp 2000, "Directional statistics"; DLMF 10.25.2, 10.41.3.
    Rodriguez-Galvez et al. 2023 (arXiv 2307.10907), whose program evaluates
    scipy.special.iv and adds the floor.
  """
  if not isinstance(dim, numbers.Integral) or dim < 1:
    raise ValueError(f"dim must be a positive integer, got {dim!r}")
  check_kappa(kappa)
  if bessel_floor is not None and not bessel_floor > 0:
    raise ValueError(
      f"bessel_floor must be None or positive, got {bessel_floor!r}"
    )
  order = dim / 2 - 1
  log_area = log_sphere_area(dim)
  on_host = isinstance(kappa, numbers.Real)
  if on_host:
    xp, kappa = np, float(kappa)
    c = log_area + _log_s_on_host(kappa, order)
  else:
    xp, kappa = jnp, spectra.widen(kappa)
    c = log_area + _log_s(kappa, order)
  if bessel_floor is not None:
    elementary = dim / 2 * math.log(2 * math.pi) - order * xp.log(kappa)
    c = elementary + xp.logaddexp(c - elementary, math.log(bessel_floor))
  return float(c) if on_host else c
