"""Trace forms: the losses of Matrix-SSL without a matrix logarithm.

The authors' loss is -tr(P T_K(Q)) with T_K the Taylor polynomial of the
logarithm about I: a polynomial in C = Q - ridge I. So all it needs are traces
of products, and tr (A B)^k = tr (B A)^k moves them to the smaller of the two
sides, [batch, batch] or [dim, dim].
"""

import functools

import jax
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _sample_side(g, z, a, scale, ridge):
  """Both terms without their constants, by products of [batch, batch].

      -scale sum_j a_j tr G^j - sum_j a_j (tr(G^T K^(j-1) G) + ridge tr K^j),
      K = Z Z^T,   j = 1 ... order

  for a = (a_1, ...), as (uniformity, alignment). Its derivative is written
  out, since it needs fewer products than the chain rule through each power.
  """
  return _sample_side_and_factors(g, z, a, scale, ridge)[0]


def _sample_side_and_factors(g, z, a, scale, ridge):
  order = len(a)
  k = spectra.self_product(z)
  x = [g]  # K^j G
  while 2 * len(x) < order + 1:
    x.append(spectra.matmul(k, x[-1]))
  weighted = [jnp.sum(x[j // 2] * x[j - j // 2]) for j in range(order)]
  crossed = power_traces(g, order)
  plain = power_traces(k, order)
  terms = (
    -scale * sum(c * t for c, t in zip(a, crossed, strict=True)),
    -sum(
      c * (w + ridge * t) for c, w, t in zip(a, weighted, plain, strict=True)
    ),
  )
  return terms, (k, x)


@_sample_side.defjvp
def _sample_side_jvp(a, scale, ridge, primals, tangents):
  (g, z), (dg, dz) = primals, tangents
  order = len(a)
  terms, (k, x) = _sample_side_and_factors(g, z, a, scale, ridge)
  while len(x) < order:
    x.append(spectra.matmul(k, x[-1]))
  # d tr G^j = j tr(G^(j-1) dG), and the same for K.
  by_g = _slope(g, a)
  by_k = ridge * _slope(k, a)
  # d tr(G^T K^j G) = 2 <X_j, dG> + sum_{i + l + 1 = j} <X_i X_l^T, dK>
  by_x = 2 * sum(c * power for c, power in zip(a, x, strict=True))
  for i in range(order // 2):
    half = a[2 * i + 1] / 2 * x[i]
    for other in range(i + 1, order - 1 - i):
      half += a[i + other + 1] * x[other]
    pair = spectra.matmul(x[i], half.T)
    by_k += pair + pair.T
  # by_k is symmetric: <by_k, dZ Z^T + Z dZ^T> is twice its first half.
  dk = 2 * spectra.matmul(dz, z.T)
  return terms, (
    -scale * jnp.sum(by_g.T * dg),
    -jnp.sum(by_x * dg) - jnp.sum(by_k * dk),
  )


def _slope(c, a):
  """sum_j j a_j c^(j-1)."""
  powers = [jnp.eye(len(c), dtype=c.dtype), c]
  while len(powers) < len(a):
    powers.append(spectra.matmul(powers[-1], c))
  return sum(
    (j + 1) * x * power
    for j, (x, power) in enumerate(zip(a, powers, strict=False))
  )


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
  p, z = p * batch**-0.5, z * batch**-0.5
  constant, *a = log_coefficients(order, ridge)
  if batch < dim:
    # tr(C_pp C_zz^j) = tr(G^T K^(j-1) G) with G = Z P^T, K = Z Z^T.
    uniformity, alignment = _sample_side(
      spectra.matmul(z, p.T), z, tuple(a), scale, ridge
    )
  else:
    crossed = power_traces(spectra.matmul(p.T, z), order)
    own = spectra.gram(z)
    plain = power_traces(own, order, symmetric=True)
    weighted = _weighted_power_traces(spectra.gram(p), own, order)[1:]
    uniformity = -scale * sum(c * t for c, t in zip(a, crossed, strict=True))
    alignment = -sum(
      c * (w + ridge * t) for c, w, t in zip(a, weighted, plain, strict=True)
    )
  return (
    uniformity - scale * constant * dim,
    alignment - constant * (jnp.sum(p * p) + ridge * dim),
  )
