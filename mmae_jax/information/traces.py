"""Trace forms: the losses of Matrix-SSL without a matrix logarithm.

The authors' loss is -tr(P T_K(Q)) with T_K the Taylor polynomial of the
logarithm about I: a polynomial in C = Q - ridge I. So all it needs are traces
of products, and tr (A B)^k = tr (B A)^k moves them to the smaller of the two
sides, [batch, batch] or [dim, dim].
"""

import jax.numpy as jnp
import numpy as np

from mmae_jax.information import checks, spectra


def log_coefficients(order, ridge):
  """Coefficients of the truncated logarithm, in powers of C = Q - ridge I.

      T_K(Q) = sum_{k=1..K} (-1)^(k+1) (Q - I)^k / k = sum_{k=0..K} a_k C^k

  Args:
    order: K, the number of terms.
    ridge: what Q has more than C on its diagonal.
  Returns:
    a_0 ... a_K as Python floats; for ridge 1, 0, 1, -1/2, 1/3, -1/4.
  """
  shifted = np.polynomial.Polynomial([ridge - 1.0, 1.0])  # Q - I, in C
  total = np.polynomial.Polynomial([0.0])
  for k in range(1, order + 1):
    total = total + (-1) ** (k + 1) / k * shifted**k
  a = np.zeros(order + 1)
  a[: len(total.coef)] = total.coef
  return [float(x) for x in a]


def _powers(c, order, symmetric):
  """c^1 ... c^ceil(order / 2): any two of them reach every higher trace."""
  powers = [c]
  while 2 * len(powers) < order:
    square = symmetric and len(powers) == 1  # c c^T, cheaper to differentiate
    powers.append(
      spectra.self_product(c) if square else spectra.matmul(powers[-1], c)
    )
  return powers


def power_traces(c, order, *, symmetric=False):
  """tr c^1 ... tr c^order of a square matrix, in about order / 2 products.

  tr(A B) is the sum of the entries of A o B^T, so the last product of every
  trace is not formed.
  """
  p = _powers(c, order, symmetric)
  traces = [jnp.trace(c)]
  for k in range(2, order + 1):
    traces.append(jnp.sum(p[k // 2 - 1] * p[k - k // 2 - 1].T))
  return traces


def _weighted_power_traces(w, c, order):
  """tr w, tr(w c), ... tr(w c^order) of symmetric matrices."""
  p = _powers(c, order, symmetric=True)
  traces = [jnp.trace(w)] + [jnp.sum(w * power) for power in p]
  products = {}  # w c^low, each formed once
  for k in range(len(p) + 1, order + 1):
    high = min(len(p), k - 1)
    low = k - high
    if low not in products:
      products[low] = spectra.matmul(w, p[low - 1])
    traces.append(jnp.sum(products[low] * p[high - 1]))
  return traces[: order + 1]


def matrix_ssl_terms(target, z, *, scale=1.0, ridge=1.0, order=4):
  """The two terms of Matrix-SSL for one direction, by traces alone.

      uniformity = -tr(scale I  T_K(C(p, z) + ridge I))
      alignment  = -tr((C(p, p) + ridge I)  T_K(C(z, z) + ridge I))
      C(a, b) = A^T J B / batch,   J = I - 11^T / batch,   rows normalised
      T_K(Q) = sum_{k=1..K} (-1)^(k+1) (Q - I)^k / k

  Equal to the d x d matrix logarithm of the authors' program in value and
  gradient, from products on the smaller of batch and dim. C(p, z) is not
  symmetric and is not symmetrised.

  Args:
    target: features p of the teacher branch, [batch, dim]; the gradient goes
      through it too: the caller stops it.
    z: features of the student branch, [batch, dim].
    scale: the constant called lambda in the program, positive.
    ridge: called mu; in (0, 1] the series converges for all unit rows.
    order: number of Taylor terms, 4 in the program.
  Returns:
    (uniformity, alignment), scalars without a unit, at least float32. A ridge
    other than 1 adds the constant -scale dim log ridge (about) to the first.
  Raises:
    ValueError: shapes differ, not floating-point matrices, scale or ridge not
      positive, order < 1.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326. The program leaves out
    the + tr Q of the paper's matrix cross-entropy, and so does this: with
    scale = ridge = 1 it would remove the first-order pull between branches.
  """
  checks.check_order(order)
  checks.check_positive("scale", scale)
  checks.check_positive("ridge", ridge)
  checks.check_same_shape(target=target, z=z)
  p = spectra.centre_rows(spectra.normalise_rows(target))
  z = spectra.centre_rows(spectra.normalise_rows(z))
  batch, dim = z.shape
  a = log_coefficients(order, ridge)
  if batch < dim:
    cross = spectra.matmul(z, p.T) / batch
    own = spectra.gram(z, side="sample") / batch
    # tr(C_pp C_zz^k) = tr(W K^(k-1)) with W = G G^T, K = z z^T / batch.
    weight = spectra.self_product(cross)
    weighted = _weighted_power_traces(weight, own, order - 1)
    weighted = [jnp.sum(p * p) / batch, *weighted]
  else:
    cross = spectra.matmul(p.T, z) / batch
    own = spectra.gram(z) / batch
    weighted = _weighted_power_traces(spectra.gram(p) / batch, own, order)
  plain = [float(dim), *power_traces(own, order, symmetric=True)]
  crossed = [float(dim), *power_traces(cross, order)]
  uniformity = -scale * sum(x * t for x, t in zip(a, crossed, strict=True))
  alignment = -sum(
    x * (w + ridge * t) for x, w, t in zip(a, weighted, plain, strict=True)
  )
  return uniformity, alignment
