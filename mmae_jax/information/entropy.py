"""Matrix entropies of density matrices, in nats."""

import math

import jax
import jax.numpy as jnp

from mmae_jax.information import spectra


def _check_order(order):
  if not (isinstance(order, (int, float)) and order > 0):
    raise ValueError(f"order must be a positive number, got {order!r}")


def spectral_entropy(p, *, order=1.0):
  """Renyi entropy of a spectrum.

      H_a(p) = log(sum_i p_i^a) / (1 - a),   H_1(p) = -sum_i p_i log p_i,
      H_inf(p) = -log max_i p_i

  Args:
    p: probabilities, [n], as `spectrum` returns them.
    order: a, positive; 1 is von Neumann's entropy, math.inf the min-entropy.
  Returns:
    Scalar in nats, between 0 and log n; an all-zero p gives 0.
  Raises:
    ValueError: order is not positive.
  Source:
    Renyi 1961; for matrices Tan et al. 2023 (arXiv 2309.17281), definition of
    matrix entropy.
  """
  _check_order(order)
  p = spectra.widen(p)
  present = p > 0
  safe = jnp.where(present, p, 1.0)
  if order == 1:
    return -jnp.sum(jnp.where(present, safe * jnp.log(safe), 0.0))
  if math.isinf(order):
    return -jnp.log(jnp.max(safe * present + (1.0 - jnp.any(present))))
  total = jnp.sum(jnp.where(present, safe**order, 0.0))
  return jnp.log(jnp.where(total > 0, total, 1.0)) / (1.0 - order)


def matrix_entropy(k, *, order=1.0):
  """Matrix entropy of a positive semi-definite matrix.

      H_a(K) = log(tr (K / tr K)^a) / (1 - a),
      H_1(K) = -tr(K/tr K log K/tr K)

  Order 2 is -log ||K/tr K||_F^2: two passes over the entries, differentiable,
  no factorisation. Other orders take the eigenvalues and are diagnostics
  without a gradient.

  Args:
    k: symmetric positive semi-definite, [n, n]; divided by its trace here, so
      unit-diagonal and unit-trace matrices agree.
    order: positive; math.inf is allowed.
  Returns:
    Scalar in nats, 0 <= H <= log n, non-increasing in the order. On a sample
    Gram matrix it is at most log(rank): compare only at equal n.
  Raises:
    ValueError: k is not a square floating-point matrix or order <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281, which defines it for
    unit-diagonal matrices divided by n. Their repository has no measurement
    code to differ from.
  """
  _check_order(order)
  if order == 2:
    k = spectra.unit_trace(k)
    total = jnp.sum(k * k)
    return -jnp.log(jnp.where(total > 0, total, 1.0))
  return spectral_entropy(spectra.spectrum(k), order=order)


def effective_rank(z, *, centre=False):
  """Effective rank of features.

      exp(H_1(Z^T Z / tr Z^T Z)),   rows of Z normalised

  Args:
    z: features, [batch, dim]; rows are normalised here.
    centre: subtract the mean of the normalised rows first.
  Returns:
    Scalar between 1 and min(batch, dim); a diagnostic without a gradient. The
    second moment is uncentred, so a common mean direction lowers it.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Roy and Vetterli 2007, "The effective rank", on the eigenvalues of the
    second moment (not on the singular values of Z, which are their roots and
    give another number).
  """
  z = jax.lax.stop_gradient(z)
  p = spectra.feature_spectrum(z, centre=centre)
  return jnp.exp(spectral_entropy(p))
