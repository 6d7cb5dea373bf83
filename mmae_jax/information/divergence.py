"""Matrix entropy, Kullback-Leibler divergence and cross-entropy of Matrix-SSL.

For positive semi-definite matrices of any trace:

    MCE(P, Q) = MKL(P || Q) + ME(P),   exactly.
"""

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, logarithm, spectra


def unnormalised_entropy(a):
  """Matrix entropy of a positive semi-definite matrix of any trace (ME).

      ME(A) = -tr(A log A) + tr A = sum_i -w_i log w_i + w_i,   0 log 0 = 0

  Args:
    a: symmetric positive semi-definite, [n, n]; not divided by its trace. For
      trace one, ME = H_1 + 1.
  Returns:
    Scalar in nats, at least float32. Differentiable everywhere: its gradient
    -log A is taken on the range of A and zero beyond it, where the one-sided
    derivative is infinite.
  Raises:
    ValueError: a is not a square floating-point matrix.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326; an earlier version
    lacked + tr A, and then MCE is not MKL + ME.
  """
  checks.check_square("a", a)
  a = spectra.widen(a)
  log = logarithm.log_on_support(jax.lax.stop_gradient(a))
  # d ME = -tr(log A dA): with the logarithm held fixed the gradient is that of
  # -tr(A log A), and the + tr A only moves the value.
  return _inner(-log, a) + jax.lax.stop_gradient(jnp.trace(a))


def matrix_cross_entropy(p, q, *, plus_trace=True, method="eigh", **options):
  """Matrix cross-entropy (MCE).

      MCE(P, Q) = -tr(P log Q) [+ tr Q]

  In its second argument it is least at Q = P. MCE(c I, Q) is
  -c log det Q + tr Q; MCE(P, c I) knows only the trace of P. For Matrix-SSL's
  loss use `matrix_ssl_terms`, which never builds the logarithm.

  Args:
    p, q: symmetric positive semi-definite, [n, n].
    plus_trace: + tr Q, as in the paper; the authors' program leaves it out.
    method, **options: of `matrix_log`; "taylor" with order 4 is the
      program's.
  Returns:
    Scalar in nats, at least float32; infinite (with a finite gradient) where
    P has weight outside the range of Q and method is "eigh": add a ridge to Q
    whenever there are fewer samples than dimensions.
  Raises:
    ValueError: shapes differ, or as `matrix_log`.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326.
  """
  checks.check_square("p", p)
  checks.check_same_shape(p=p, q=q)
  p, q = spectra.widen(p), spectra.widen(q)
  value = -_inner(p, logarithm.matrix_log(q, method=method, **options))
  if method == "eigh":
    value = value + _outside(p, q)
  return value + jnp.trace(q) if plus_trace else value


def matrix_kl(p, q):
  """Matrix Kullback-Leibler divergence (MKL).

      MKL(P || Q) = tr(P log P - P log Q - P + Q)

  The quantum relative entropy for matrices of any trace: not negative, zero
  only at P = Q. MKL(C || I/d) = log d - H_1(C) for unit trace.

  Args:
    p, q: symmetric positive semi-definite, [n, n].
  Returns:
    Scalar in nats, at least float32; infinite (with a finite gradient) where
    P has weight outside the range of Q. Gradient in P: log P - log Q.
  Raises:
    ValueError: not square floating-point matrices of one shape.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326.
  """
  return matrix_cross_entropy(p, q) - unnormalised_entropy(p)


def _inner(a, b):
  """tr(A^T B), without the product."""
  return jnp.sum(a * b)


def _outside(p, q):
  """0, or infinity where p has weight outside the range of q."""
  p, q = jax.lax.stop_gradient((p, q))
  w, v = jnp.linalg.eigh(spectra.symmetric(q))
  floor = spectra.rank_floor(w.dtype)
  empty = w <= floor * jnp.max(w)
  weights = jnp.sum(v * spectra.matmul(p, v), axis=0)
  lost = jnp.sum(jnp.where(empty, weights, 0.0))
  return jnp.where(lost > 10 * floor * jnp.trace(p), jnp.inf, 0.0)
