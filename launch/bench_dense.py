"""The authors' forms of the losses, from the formulas, in JAX.

Matrices of [dim, dim] for Matrix-SSL and M-MAE whatever the batch is, of
[batch, batch] for U-MAE. `bench_torch` has the same in PyTorch.
"""

import jax
import jax.numpy as jnp


def _matmul(a, b):
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _unit(z):
  return z / jnp.maximum(jnp.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def coding_rate(z):
  """log det(I + Z^T Z / dim) of the [dim, dim] matrix."""
  z = _unit(z)
  dim = z.shape[1]
  return jnp.linalg.slogdet(
    jnp.eye(dim, dtype=z.dtype) + _matmul(z.T, z) / dim
  )[1]


def mean_squared_cosine(z):
  """Mean of the squared entries of the [batch, batch] matrix of cosines."""
  z = _unit(z)
  return jnp.mean(_matmul(z, z.T) ** 2)


def series_log(q, *, order=4):
  """T_K(Q) = sum_{k=1..K} (-1)^(k+1) (Q - I)^k / k, one product a power."""
  e = q - jnp.eye(q.shape[0], dtype=q.dtype)
  power = total = e
  for k in range(2, order + 1):
    power = _matmul(power, e)
    total += (-1) ** (k + 1) / k * power
  return total


def matrix_ssl(z1, z2, p1, p2, *, form_product=True):
  """-tr(P T_4(Q)) with [dim, dim] matrices, scale and ridge 1.

  Uniformity has P = I, Q = C(p, z) + I; alignment P = C(p, p) + I and
  Q = C(z, z) + I. With `form_product=False` the trace of P T is the sum of the
  entries of P o T^T, which saves the product P T.
  """

  def moment(a, b):
    return _matmul(a.T, b) / a.shape[0] + jnp.eye(a.shape[1], dtype=a.dtype)

  def inner(p, log):
    if form_product:
      return jnp.trace(_matmul(p, log))
    return jnp.sum(p * log.T)

  def term(p, z):
    p, z = (x - jnp.mean(x, axis=0) for x in (_unit(p), _unit(z)))
    uniformity = inner(
      jnp.eye(z.shape[1], dtype=z.dtype), series_log(moment(p, z))
    )
    return -uniformity - inner(moment(p, p), series_log(moment(z, z)))

  return (term(p2, z1) + term(p1, z2)) / 2


@jax.custom_jvp
def products_alone(z):
  """The products that entropy of order 2 needs, and nothing else.

  Forward the Gram matrix on the smaller side, backward one product with it.
  """
  return _corner(_smaller(z))


@products_alone.defjvp
def _products_and_gradient(primals, tangents):
  (z,), (dz,) = primals, tangents
  k = _smaller(z)
  on_samples = z.shape[0] < z.shape[1]
  gradient = _matmul(k, z) if on_samples else _matmul(z, k)
  return _corner(k), jnp.sum(gradient * dz)


def _smaller(z):
  return _matmul(z, z.T) if z.shape[0] < z.shape[1] else _matmul(z.T, z)


def _corner(k):
  # XLA would compute one entry only if nothing else were asked for.
  return jax.lax.optimization_barrier(k)[0, 0]
