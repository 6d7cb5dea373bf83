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


def weighted_power_traces(w, c, order):
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def power_sum(c, coefficients):
  """sum_k coefficients_k tr c^k, k = 1, 2, ..., of a square matrix.

  Its derivative, <sum_k k coefficients_k (c^(k-1))^T, dc>, is written out: the
  chain rule through each power takes twice the products.
  """
  traces = power_traces(c, len(coefficients))
  return sum(a * t for a, t in zip(coefficients, traces, strict=True))


@power_sum.defjvp
def _power_sum_jvp(coefficients, primals, tangents):
  (c,), (dc,) = primals, tangents
  slope = _slope(c, coefficients)
  return power_sum(c, coefficients), jnp.sum(slope.T * dc)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _sample_side(g, z, weighted, plain):
  """The alignment without its constants, by products of [batch, batch].

      sum_j weighted_j tr(G^T K^(j-1) G) + plain_j tr K^j,
      K = Z Z^T,   j = 1 ... order

  Its derivative is written out, as that of `power_sum`.
  """
  return _sample_side_and_factors(g, z, weighted, plain)[0]


def _sample_side_and_factors(g, z, weighted, plain):
  order = len(weighted)
  k = spectra.self_product(z)
  x = [g]  # K^j G
  while 2 * len(x) < order + 1:
    x.append(spectra.matmul(k, x[-1]))
  value = power_sum(k, plain) + sum(
    c * jnp.sum(x[j // 2] * x[j - j // 2]) for j, c in enumerate(weighted)
  )
  return value, (k, x)


@_sample_side.defjvp
def _sample_side_jvp(weighted, plain, primals, tangents):
  (g, z), (dg, dz) = primals, tangents
  order = len(weighted)
  value, (k, x) = _sample_side_and_factors(g, z, weighted, plain)
  while len(x) < order:
    x.append(spectra.matmul(k, x[-1]))
  by_k = _slope(k, plain)
  # d tr(G^T K^j G) = 2 <X_j, dG> + sum_{i + l + 1 = j} <X_i X_l^T, dK>
  by_g = 2 * sum(c * power for c, power in zip(weighted, x, strict=True))
  for i in range(order // 2):
    half = weighted[2 * i + 1] / 2 * x[i]
    for other in range(i + 1, order - 1 - i):
      half += weighted[i + other + 1] * x[other]
    pair = spectra.matmul(x[i], half.T)
    by_k += pair + pair.T
  # by_k is symmetric: <by_k, dZ Z^T + Z dZ^T> is twice its first half.
  dk = 2 * spectra.matmul(dz, z.T)
  return value, jnp.sum(by_g * dg) + jnp.sum(by_k * dk)


def _slope(c, a):
  """sum_j j a_j c^(j-1)."""
  powers = [jnp.eye(len(c), dtype=c.dtype), c]
  while len(powers) < len(a):
    powers.append(spectra.matmul(powers[-1], c))
  return sum(
    (j + 1) * x * power
    for j, (x, power) in enumerate(zip(a, powers, strict=False))
  )


def _symmetrised_cross(p, z):
  """(P^T Z + Z^T P) / 2, or a smaller matrix with the same traces of powers.

  It is [P; Z]^T [Z; P] / 2, whose factors change places: [Z; P] [P; Z]^T / 2
  is of twice the batch.
  """
  batch, dim = z.shape
  if 2 * batch >= dim:
    return spectra.symmetric(spectra.matmul(p.T, z))
  g = spectra.matmul(z, p.T)
  own, target = spectra.self_product(z), spectra.self_product(p)
  return jnp.block([[g, own], [target, g.T]]) / 2


def matrix_ssl_terms(
  target,
  z,
  *,
  scale=1.0,
  ridge=1.0,
  order=4,
  plus_trace=False,
  symmetrise=False,
):
  """The two terms of Matrix-SSL for one direction, by traces alone.

      uniformity = -tr(scale I  T_K(Q_pz)) [+ tr Q_pz]
      alignment  = -tr(Q_pp  T_K(Q_zz)) [+ tr Q_zz],   Q_ab = C(a, b) + ridge I
      C(a, b) = A^T J B / batch,   J = I - 11^T / batch,   rows normalised
      T_K(Q) = sum_{k=1..K} (-1)^(k+1) (Q - I)^k / k

  Equal to the d x d matrix logarithm of the authors' program in value and
  gradient, from products on the smaller of batch and dim. C(p, z) is not
  symmetric, and is made so only by `symmetrise`.

  Args:
    target: features p of the teacher branch, [batch, dim]; the gradient goes
      through it too: the caller stops it.
    z: features of the student branch, [batch, dim].
    scale: the constant called lambda in the program, positive.
    ridge: called mu; in (0, 1] the series converges for all unit rows.
    order: number of Taylor terms, 4 in the program.
    plus_trace: + tr Q, as in `matrix_cross_entropy`.
    symmetrise: replaces C(p, z) by its symmetric part. The smaller side is
      then that of dim and twice the batch.
  Returns:
    (uniformity, alignment), scalars without a unit, at least float32. A ridge
    other than 1 adds the constant -scale dim log ridge (about) to the first,
    and the traces add ridge dim to each.
  Raises:
    ValueError: shapes differ, not floating-point matrices, scale or ridge not
      positive, order < 1.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326. The program leaves out
    the + tr Q of the paper's matrix cross-entropy, and so do the defaults:
    with scale = ridge = 1 it would remove the first-order pull between
    branches. The paper's equations 18 and 19 with a ridge on both arguments
    have it, and scale = 1 / dim + ridge.
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
  # tr Q is of first order. Taken into the coefficients, what it cancels
  # cancels before rounding.
  extra = [float(plus_trace)] + [0.0] * (order - 1)
  crossed = tuple(e - scale * c for e, c in zip(extra, a, strict=True))
  plain = tuple(e - ridge * c for e, c in zip(extra, a, strict=True))
  weighted = tuple(-c for c in a)
  if batch < dim:
    # tr(C_pp C_zz^j) = tr(G^T K^(j-1) G) with G = Z P^T, K = Z Z^T.
    c = spectra.matmul(z, p.T)
    alignment = _sample_side(c, z, weighted, plain)
  else:
    c = spectra.matmul(p.T, z)
    own = spectra.gram(z)
    traces = power_traces(own, order, symmetric=True)
    targets = weighted_power_traces(spectra.gram(p), own, order)[1:]
    alignment = sum(
      w * s + v * t
      for w, s, v, t in zip(weighted, targets, plain, traces, strict=True)
    )
  uniformity = power_sum(_symmetrised_cross(p, z) if symmetrise else c, crossed)
  ridges = ridge * dim if plus_trace else 0.0
  return (
    uniformity + (ridges - scale * constant * dim),
    alignment - constant * (jnp.sum(p * p) + ridge * dim) + ridges,
  )


def off_diagonal_squares(a, b):
  """Sum of the squares beside the diagonal of a^T b, by the smaller side.

      ||A^T B||_F^2 - sum_j (A^T B)_jj^2,   ||A^T B||_F^2 = tr(A A^T B B^T)

  Args:
    a, b: [n, m] each, at least float32.
  Returns:
    Scalar. With n < m it is a difference, whose round-off is that of the whole
    sum; else the diagonal is left out.
  """
  n, m = a.shape
  if n < m:
    # Not `spectra.self_product`: its gradient transposes the matrices, which
    # on many devices is an exchange of all with all.
    whole = jnp.sum(spectra.matmul(a, a.T) * spectra.matmul(b, b.T))
    return whole - jnp.sum(jnp.sum(a * b, axis=0) ** 2)
  c = spectra.matmul(a.T, b)
  return jnp.sum(jnp.where(jnp.eye(m, dtype=bool), 0.0, c) ** 2)
