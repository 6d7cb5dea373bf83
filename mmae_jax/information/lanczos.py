"""Stochastic Lanczos quadrature: traces of functions of a density matrix."""

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra

_GIVEN = ("matrix", "features")


def _einsum(legend, *arrays):
  return jnp.einsum(legend, *arrays, precision=jax.lax.Precision.HIGHEST)


def _unit_trace_product(a, given):
  """(v -> A v / tr A, size, tr A); the smaller side of features."""
  if given not in _GIVEN:
    raise ValueError(f"given must be one of {', '.join(_GIVEN)}, got {given!r}")
  if given == "matrix":
    checks.check_square("a", a)
    k = spectra.widen(jax.lax.stop_gradient(a))
    density = spectra.unit_trace(k)
    return lambda v: spectra.matmul(density, v), k.shape[0], jnp.trace(k)
  checks.check_matrix("a", a)
  z = spectra.widen(jax.lax.stop_gradient(a))
  # The largest entry first: squares of very long rows leave float32.
  largest = jnp.max(jnp.abs(z))
  z = z / jnp.where(largest > 0, largest, 1.0)
  squares = jnp.sum(z * z)
  z = z / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
  z = z if z.shape[0] >= z.shape[1] else z.T

  def product(v):
    return spectra.matmul(z.T, spectra.matmul(z, v))

  return product, z.shape[1], squares * largest**2


def tridiagonal(product, start, steps):
  """Jacobi matrices of Lanczos iterations, one per column of `start`.

  Args:
    product: v -> A v, [size, probes] both; A may differ between columns.
    start: columns of unit length, [size, probes].
    steps: number of iterations.
  Returns:
    (diagonals, off-diagonals), [probes, steps] each, and the orthonormal basis,
    [steps, size, probes]; the last off-diagonal entry couples to the step that
    was not taken. An exhausted Krylov space gives zeros from there on: blocks
    of no weight.
  """
  size, probes = start.shape
  eps = jnp.finfo(start.dtype).eps

  def step(carry, index):
    basis, vector, norm = carry
    basis = basis.at[index].set(vector)
    image = product(vector)
    diagonal = jnp.sum(vector * image, axis=0)
    # Twice is enough (Kahan and Parlett); legend: s step, n row, p probe.
    for _ in range(2):
      overlap = _einsum("snp,np->sp", basis, image)
      image = image - _einsum("snp,sp->np", basis, overlap)
    coupling = jnp.linalg.norm(image, axis=0)
    norm = jnp.maximum(norm, jnp.abs(diagonal) + coupling)
    # What full orthogonalisation leaves of an exhausted space is round-off.
    going = coupling > 16 * eps * norm
    coupling = jnp.where(going, coupling, 0.0)
    vector = jnp.where(going, image / jnp.where(going, coupling, 1.0), 0.0)
    return (basis, vector, norm), (diagonal, coupling)

  basis = jnp.zeros((steps, size, probes), start.dtype)
  norm = jnp.zeros(probes, start.dtype)
  (basis, *_), (diagonal, coupling) = jax.lax.scan(
    step, (basis, start, norm), jnp.arange(steps)
  )
  return diagonal.T, coupling.T, basis


@jax.custom_batching.sequential_vmap
def _eigh_alone(x):
  return tuple(jnp.linalg.eigh(x))


def _eigh(x):
  """Eigenvalues and eigenvectors of a stack of small matrices.

  On a CPU one after the other, under an outer vmap too: two batched
  factorisations that run at once wait for each other forever when they hold
  all threads of XLA's pool (jaxlib 0.10.2, seen with two cores).
  """
  return jax.lax.platform_dependent(
    x,
    cpu=jax.vmap(_eigh_alone),
    default=lambda x: tuple(jnp.linalg.eigh(x)),
  )


def jacobi_nodes(diagonal, coupling):
  """Eigenvalues and eigenvectors of Jacobi matrices, semi-definite ones.

  Args:
    diagonal, coupling: [probes, steps] and [probes, steps - 1].
  Returns:
    [probes, steps], those under the rank floor zero, and
    [probes, steps, steps].
  """
  steps = diagonal.shape[1]
  index = jnp.arange(steps)
  jacobi = jnp.zeros((*diagonal.shape, steps), diagonal.dtype)
  jacobi = jacobi.at[:, index, index].set(diagonal)
  jacobi = jacobi.at[:, index[1:], index[:-1]].set(coupling)
  jacobi = jacobi.at[:, index[:-1], index[1:]].set(coupling)
  nodes, vectors = _eigh(jacobi)
  floor = spectra.rank_floor(nodes.dtype) * jnp.max(nodes)
  return jnp.where(nodes <= floor, 0.0, nodes), vectors


def _quadrature(function, diagonal, coupling):
  """Sum of weights times function(nodes), one value per Jacobi matrix."""
  nodes, vectors = jacobi_nodes(diagonal, coupling)
  return jnp.sum(vectors[:, 0, :] ** 2 * function(nodes), axis=1)


def _bracket(function, diagonal, coupling):
  """Gauss' rule and the Gauss-Radau rule with a node at zero, per probe.

  By the signs of the derivatives the first is never below and the second
  never above the integral.
  """
  tiny = jnp.finfo(diagonal.dtype).tiny

  def eliminate(pivot, entries):
    below, beside = entries
    return below - beside**2 / jnp.maximum(pivot, tiny), None

  pivot, _ = jax.lax.scan(
    eliminate, diagonal[:, 0], (diagonal[:, 1:].T, coupling[:, :-1].T)
  )
  # det = 0 fixes the last entry; eigenvalues of a density matrix, hence all
  # entries, are at most one, whatever round-off does to the pivots.
  last = coupling[:, -1] ** 2 / jnp.maximum(pivot, tiny)
  last = jnp.clip(last, 0.0, 1.0)
  # Gauss' rule has one row less: a block of no weight fills its place, so that
  # one stack of matrices is factorised.
  ends = jnp.concatenate([jnp.zeros_like(last), last])[:, None]
  uncoupled = coupling.at[:, -1].set(0.0)
  integrals = _quadrature(
    function,
    jnp.concatenate([jnp.tile(diagonal, (2, 1)), ends], axis=1),
    jnp.concatenate([uncoupled, coupling]),
  )
  return jnp.split(integrals, 2)


def _with_control(values, control):
  """Mean of values by regression on a control of known mean zero, its error.

  The control is v^T A v - tr A, which costs nothing: matrices of rank one and
  multiples of projections become exact, and the error of other spectra falls
  2 to 20 fold. The error is the jackknife's (HC3), because the residual of a
  probe that holds most of the largest eigenvalue flatters the fit.
  """
  probes, eps = values.shape[0], jnp.finfo(values.dtype).eps
  mean, centre = jnp.mean(values), jnp.mean(control)
  spread = jnp.sum((control - centre) ** 2)
  # Of a diagonal matrix the control is constant up to round-off.
  varies = spread > probes * (16 * eps) ** 2
  steer = jnp.where(varies, control - centre, 0.0)
  spread = jnp.where(varies, spread, 1.0)
  slope = jnp.sum(steer * (values - mean)) / spread
  rest = values - mean - slope * steer
  leverage = 1 / probes + steer**2 / spread
  weight = 1 / probes - centre * steer / spread
  # Without the one probe that differs there is no slope to fit: such a
  # residual is round-off and must not be divided by zero.
  jackknife = weight * rest / jnp.maximum(1 - leverage, 1 / probes)
  return mean - slope * centre, jnp.linalg.norm(jackknife)


def trace_of_function(key, function, a, given, probes, steps):
  """(estimate, standard error) of tr f(A / tr A), f(x) = function(x, tr A).

  f(0) is 0, its even derivatives are negative and its odd ones, from the third
  on, positive. Arguments as in `estimators.stochastic_log_det`.
  """
  checks.check_count("probes", probes, least=4)
  checks.check_count("steps", steps)
  product, size, trace = _unit_trace_product(a, given)
  probe = jax.random.rademacher(key, (size, probes), trace.dtype)
  diagonal, coupling, _ = tridiagonal(
    product, probe / size**0.5, min(steps, size)
  )
  upper, lower = _bracket(lambda x: function(x, trace), diagonal, coupling)
  values = size * (upper + lower) / 2
  estimate, sampling = _with_control(
    values, size * diagonal[:, 0] - jnp.where(trace > 0, 1.0, 0.0)
  )
  truncation = size * jnp.mean(jnp.abs(upper - lower)) / 2
  round_off = 8 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
  return estimate, sampling + truncation + round_off
