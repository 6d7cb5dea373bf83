"""Matrix logarithms: exact with a safe derivative, and four approximations."""

import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax.information import checks, spectra

METHODS = ("eigh", "taylor", "gauss_legendre", "newton_schulz")


def spectral_function(a, value, quotient):
  """V f(w) V^T of a symmetric matrix, differentiable at equal eigenvalues.

      d f(A)[E] = V (D o (V^T E V)) V^T,
      D_ij = (f(w_i) - f(w_j)) / (w_i - w_j),   D_ii = f'(w_i)

  jax's own derivative of `eigh` divides by w_i - w_j and is NaN at equal
  eigenvalues, which a batch smaller than the dimension always has.

  Args:
    a: symmetric, [n, n]; its skew part is ignored.
    value: f, elementwise on [n] eigenvalues.
    quotient: (w_i [n, 1], w_j [1, n]) -> D [n, n], in a form that does not
      cancel.
  Returns:
    f(A), [n, n]. First derivatives only, forward and reverse.
  Source:
    Daleckii and Krein 1965; Higham 2008, "Functions of Matrices", 3.2.
  """

  @jax.custom_jvp
  def function(a):
    w, v = jnp.linalg.eigh(spectra.symmetric(a))
    return spectra.matmul(v * value(w), v.T)

  @function.defjvp
  def derivative(primals, tangents):
    (a,), (e,) = primals, tangents
    w, v = jnp.linalg.eigh(spectra.symmetric(a))
    w, v = jax.lax.stop_gradient((w, v))
    inner = spectra.matmul(spectra.matmul(v.T, spectra.symmetric(e)), v)
    inner = quotient(w[:, None], w[None, :]) * inner
    return (
      spectra.matmul(v * value(w), v.T),
      spectra.matmul(spectra.matmul(v, inner), v.T),
    )

  return function(a)


def _support(w):
  """Which eigenvalues are not round-off of zero, and the rest set to one."""
  present = w > spectra.rank_floor(w.dtype) * jnp.max(w)
  return present, jnp.where(present, w, 1.0)


def _log_on_support(w):
  present, safe = _support(w)
  return jnp.where(present, jnp.log(safe), 0.0)


def _quotient_on_support(x, y):
  """`log_quotient`; 0 where either is zero."""
  # One threshold for both: the largest eigenvalue is in x as well as in y.
  present_x, x = _support(x)
  present_y, y = _support(y)
  return jnp.where(present_x & present_y, log_quotient(x, y), 0.0)


def log_quotient(x, y):
  """(log x - log y) / (x - y) of positive numbers, 1/x at x = y."""
  ratio = (x - y) / (x + y)
  near = jnp.abs(ratio) < 0.1
  # (log x - log y) = 2 artanh(ratio), whose series does not cancel near 0.
  square = jnp.where(near, ratio, 0.0) ** 2
  series = sum(square**k / (2 * k + 1) for k in range(8))
  gap = jnp.where(near, 1.0, x - y)
  far = jnp.where(near, 0.0, (jnp.log(x) - jnp.log(y)) / gap)
  return jnp.where(near, 2.0 / (x + y) * series, far)


def log_on_support(q):
  """Principal logarithm on the range of a semi-definite matrix, 0 beyond it.

      V log(w) V^T over the eigenvalues above the rank floor

  Args:
    q: symmetric positive semi-definite, [n, n].
  Returns:
    [n, n]. Where q is definite, the matrix logarithm, with its derivative at
    equal eigenvalues too. Directions of eigenvalue zero contribute nothing to
    value and derivative (the convention 0 log 0 = 0).
  """
  return spectral_function(q, _log_on_support, _quotient_on_support)


def taylor_log(q, *, order):
  """sum_{k=1..order} (-1)^(k+1) (Q - I)^k / k, by Horner's rule."""
  eye = jnp.eye(q.shape[0], dtype=q.dtype)
  e = q - eye
  coefficients = [(-1) ** (k + 1) / k for k in range(1, order + 1)]
  total = coefficients[-1] * eye
  for c in reversed(coefficients[:-1]):
    total = c * eye + spectra.matmul(e, total)
  return spectra.matmul(e, total)


def gauss_legendre_log(q, *, order, interval=None):
  """Diagonal Pade approximant of the logarithm by Gauss-Legendre nodes.

      log(Q / g) ~ sum_j w_j E (I + t_j E)^-1,   E = Q / g - I,
      (t_j, w_j) the nodes on [0, 1];   log Q = log g I + log(Q / g)

  Args:
    q: symmetric positive definite, [n, n].
    order: number of nodes, a Cholesky solve each.
    interval: (least, largest) eigenvalue, for g = sqrt(least * largest); None
      takes the geometric mean of the eigenvalues, exp(log det(Q) / n).
  Returns:
    [n, n]. Absolute error, eigenvalues in [0.01, 1] given as the
    interval: 9e-5 with 8 nodes, 3e-9 with 16.
  """
  n = q.shape[0]
  if interval is None:
    log_g = spectra.log_det(spectra.symmetric(q)) / n
  else:
    log_g = jnp.asarray(np.log(interval[0] * interval[1]) / 2, q.dtype)
  # g only places the expansion: no derivative is lost by holding it fixed.
  log_g = jax.lax.stop_gradient(log_g)
  eye = jnp.eye(n, dtype=q.dtype)
  return log_g * eye + _pade(q / jnp.exp(log_g), order)


def _pade(x, order):
  eye = jnp.eye(x.shape[0], dtype=x.dtype)
  e = spectra.symmetric(x) - eye
  nodes, weights = np.polynomial.legendre.leggauss(order)
  total = jnp.zeros_like(e)
  for t, w in zip((nodes + 1) / 2, weights / 2, strict=True):
    factor = jax.scipy.linalg.cho_factor(eye + float(t) * e)
    total = total + float(w) * jax.scipy.linalg.cho_solve(factor, e)
  return total


def newton_schulz_log(q, *, order, roots=3, iterations=20):
  """Inverse scaling and squaring with square roots by Newton and Schulz.

      Q / ||Q||_F -> its 2^roots-th root X;   log Q ~ 2^roots log X + log ||Q||
      a root:  Y, Z <- Y T, T Z,   T = (3 I - Z Y) / 2,   from Y = X, Z = I

  Almost all of it is matrix products, which suits accelerators; log X is
  Gauss-Legendre with `order` nodes.

  Args:
    q: symmetric positive definite, [n, n].
    order: nodes of the last step.
    roots: square roots taken; 2 serve a condition number of 1e2, 3 of 1e4.
    iterations: of each root; 20 serve a condition number of 1e4.
  Returns:
    [n, n]. Too few iterations leave an error without a sign of it: compare
    with "eigh" once.
  """
  norm = jnp.sqrt(jnp.sum(q * q))
  x = q / norm
  eye = jnp.eye(q.shape[0], dtype=q.dtype)

  def improve(pair, _):
    y, z = pair
    t = 1.5 * eye - 0.5 * spectra.matmul(z, y)
    return (spectra.matmul(y, t), spectra.matmul(t, z)), None

  for _ in range(roots):
    (x, _), _ = jax.lax.scan(improve, (x, eye), length=iterations)
  return 2.0**roots * _pade(x, order) + jnp.log(norm) * eye


def matrix_log(q, *, method="eigh", order=None, **options):
  """Matrix logarithm.

      eigh            V log(w) V^T; exact; zero eigenvalues give zero
      taylor          sum_{k=1..order} (-1)^(k+1) (Q - I)^k / k
      gauss_legendre  diagonal Pade approximant with `order` nodes
      newton_schulz   inverse scaling and squaring, by matrix products

  Args:
    q: [n, n]. Symmetric positive definite, or semi-definite for "eigh";
      "taylor" takes any square matrix with eigenvalues within 1 of 1.
    method: one of the four. "eigh" costs about 20 products of that size
      forward on a CPU; "taylor" and "newton_schulz" suit accelerators.
    order: Taylor terms (default 4, as Matrix-SSL's program) or Gauss-Legendre
      nodes (default 8; 6 for "newton_schulz").
    **options: `interval` of "gauss_legendre", (least, largest) eigenvalue;
      `roots` (3) and `iterations` (20) of "newton_schulz".
  Returns:
    [n, n], at least float32; differentiable at repeated eigenvalues by every
    method. NaN where Cholesky meets a matrix that is not definite.
  Raises:
    ValueError: q is not a square floating-point matrix, method is unknown,
      order < 1, or an option does not belong to the method.
  Source:
    Higham 2008, "Functions of Matrices", chapter 11; Matrix-SSL's program
    (arXiv 2305.17326) takes "taylor" with order 4.
  """
  checks.check_square("q", q)
  if method not in METHODS:
    raise ValueError(
      f"method must be one of {', '.join(METHODS)}, got {method!r}"
    )
  if order is not None:
    checks.check_order(order)
  known = {
    "gauss_legendre": {"interval"},
    "newton_schulz": {"roots", "iterations"},
  }.get(method, set())
  if unknown := set(options) - known:
    raise ValueError(
      f"method={method!r} has no option {', '.join(sorted(unknown))}"
    )
  q = spectra.widen(q)
  if method == "eigh":
    return log_on_support(q)
  if method == "taylor":
    return taylor_log(q, order=order or 4)
  if method == "gauss_legendre":
    return gauss_legendre_log(q, order=order or 8, **options)
  return newton_schulz_log(q, order=order or 6, **options)
