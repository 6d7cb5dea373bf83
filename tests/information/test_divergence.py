"""Matrix logarithms, matrix KL and cross-entropy; trace forms of Matrix-SSL."""

import functools

import chex
from hypothesis import given, settings, strategies
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import scipy.linalg

from mmae_jax import information

ROW, COLUMN = np.arange(1, 9)[:, None], np.arange(1, 7)[None, :]
Z1 = np.sin(0.37 * ROW * COLUMN) + 0.1 * ROW
Z2 = np.sin(0.37 * ROW * COLUMN + 0.05 * COLUMN) + 0.1 * ROW
P1 = np.cos(0.53 * ROW + 0.21 * COLUMN**2) + 0.5 * np.sin(0.37 * ROW * COLUMN)
P2 = np.cos(0.53 * ROW + 0.21 * COLUMN**2 + 0.03 * ROW) + 0.5 * np.sin(
  0.37 * ROW * COLUMN
)

# specs/matrix_ssl.md 2.8: scale, ridge, gamma, order -> loss, norm of the
# gradient in z1, its first entry, the first entry of that in z2.
GOLDEN = {
  (1.0, 1.0, 1.0, 4): (-0.7898523767, 0.1242844179, 0.0107508024, 0.0104599358),
  (0.5, 0.5, 1.0, 4): (3.9153861093, 0.1254971172, 0.0106569339, 0.0108455204),
  (1.0, 1.0, 0.0, 4): (
    -0.2437474192,
    0.0674021975,
    -0.0107487132,
    -0.0112677014,
  ),
  (1.0, 1.0, 1.0, 3): (-0.7900649644, 0.1243885008, 0.0107691317, 0.0104786120),
  (1.0, 1.0, 1.0, 5): (-0.7898741484, 0.1242972961, 0.0107529575, 0.0104621725),
  (1.0, 0.5, 0.6, 4): (
    4.8972072640,
    0.1491497873,
    -0.0077365129,
    -0.0082638195,
  ),
}


def definite(seed, n=5):
  x = np.random.default_rng(seed).normal(size=(n, 2 * n))
  return x @ x.T / (2 * n)


@pytest.mark.parametrize("settings_", GOLDEN)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrix_ssl_golden_values(settings_, dtype):
  scale, ridge, gamma, order = settings_
  value, norm, first, second = GOLDEN[settings_]

  def loss(z1, z2):
    total = 0.0
    for p, z in ((P2, z1), (P1, z2)):
      uniformity, alignment = information.matrix_ssl_terms(
        jnp.asarray(p, dtype), z, scale=scale, ridge=ridge, order=order
      )
      total += (uniformity + gamma * alignment) / 2
    return total

  with jax.enable_x64(dtype == "float64"):
    got, (g1, g2) = jax.jit(jax.value_and_grad(loss, (0, 1)))(
      jnp.asarray(Z1, dtype), jnp.asarray(Z2, dtype)
    )
  exact = dtype == "float64"
  np.testing.assert_allclose(got, value, rtol=1e-9 if exact else 3e-6)
  np.testing.assert_allclose(
    (np.linalg.norm(g1), g1[0, 0], g2[0, 0]),
    (norm, first, second),
    rtol=1e-8 if exact else 1e-4,
    atol=1e-10 if exact else 1e-7,
  )


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_trace_forms_are_the_matrix_logarithm(shape, order):
  """Against NumPy's powers of the dim x dim matrices, on either side."""
  rng = np.random.default_rng(order)
  p, z = rng.normal(size=(2, *shape))
  batch, dim = shape

  def centred(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x - x.mean(0)

  def log(q):
    e = q - np.eye(dim)
    return sum(
      (-1) ** (k + 1) / k * np.linalg.matrix_power(e, k)
      for k in range(1, order + 1)
    )

  a, b = centred(p), centred(z)
  ridge = 0.6 * np.eye(dim)
  expected = (
    -0.7 * np.trace(log(a.T @ b / batch + ridge)),
    -np.trace((a.T @ a / batch + ridge) @ log(b.T @ b / batch + ridge)),
  )

  def traces(p, z):
    return jnp.stack(
      information.matrix_ssl_terms(p, z, scale=0.7, ridge=0.6, order=order)
    )

  def logarithms(p, z):
    p, z = (
      information.centre_rows(information.normalise_rows(x)) for x in (p, z)
    )
    eye = jnp.eye(dim)
    cross, own = p.T @ z / batch + 0.6 * eye, z.T @ z / batch + 0.6 * eye
    log = functools.partial(
      information.matrix_log, method="taylor", order=order
    )
    target = p.T @ p / batch + 0.6 * eye
    return jnp.stack(
      [-0.7 * jnp.trace(log(cross)), -jnp.trace(target @ log(own))]
    )

  with jax.enable_x64(True):
    p, z = jnp.asarray(p), jnp.asarray(z)
    got = traces(p, z)
    for way in (jax.jacrev, jax.jacfwd):
      jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12),
        jax.jit(way(traces, (0, 1)))(p, z),
        jax.jit(way(logarithms, (0, 1)))(p, z),
      )
  np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def test_trace_forms_gradients_and_collapse():
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):

    def loss(p, z):
      return sum(information.matrix_ssl_terms(p, z, ridge=0.5))

    for shape in ((3, 4), (4, 3)):
      p, z = map(jnp.asarray, rng.normal(size=(2, *shape)))
      chex.assert_numerical_grads(loss, (p, z), order=1, atol=1e-6)
    for p in (jnp.ones((4, 3)), jnp.zeros((4, 3))):
      value, gradients = jax.value_and_grad(loss, (0, 1))(p, p)
      chex.assert_tree_all_finite((value, gradients))


@pytest.mark.parametrize(
  "ratio, value",
  [(32, -0.2273519687), (256, -0.2283487910), (1.5, -0.2238447802)],
)
def test_maximum_entropy_coding_golden_values(ratio, value):
  """MEC's training loss; `ratio` is batch epsilon^2 / dim."""
  batch, dim = Z1.shape
  distortion = ratio * dim / batch
  with jax.enable_x64(True):
    total = sum(
      information.maximum_entropy_coding(
        jnp.asarray(z), jnp.asarray(p), epsilon_squared=distortion, order=4
      )
      for z, p in ((Z1, P2), (Z2, P1))
    )
    loss = -distortion / (dim * (batch + dim)) * total
  np.testing.assert_allclose(loss, value, rtol=1e-9)


def test_exact_maximum_entropy_coding():
  batch, dim = Z1.shape
  a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (Z1, P1))
  expected = np.linalg.slogdet(np.eye(batch) + dim / (batch * 0.5) * a @ b.T)
  assert expected.sign > 0
  with jax.enable_x64(True):
    z1, p1 = jnp.asarray(Z1), jnp.asarray(P1)
    got = information.maximum_entropy_coding(z1, p1, epsilon_squared=0.5)
    opposed = information.maximum_entropy_coding(
      jnp.ones((1, 3)), -jnp.ones((1, 3)), epsilon_squared=0.1
    )
  np.testing.assert_allclose(got, (batch + dim) / 2 * expected.logabsdet)
  assert np.isnan(opposed)  # the determinant is negative: no logarithm


@pytest.mark.parametrize(
  "method, order, tolerance",
  [
    ("eigh", None, 1e-12),
    ("gauss_legendre", 24, 1e-10),
    ("newton_schulz", 8, 1e-9),
    ("taylor", 400, 1e-8),
  ],
)
def test_matrix_log(method, order, tolerance):
  a = definite(0)
  a = a / np.linalg.eigvalsh(a)[-1]  # within the disc of the Taylor series
  weights = definite(1)
  expected = scipy.linalg.logm(a)
  # The derivative of log in the direction `weights`, by Higham's block matrix.
  block = np.block([[a, weights], [np.zeros_like(a), a]])
  derivative = scipy.linalg.logm(block)[:5, 5:]
  with jax.enable_x64(True):
    log, tangent = jax.jvp(
      lambda q: information.matrix_log(q, method=method, order=order),
      (jnp.asarray(a),),
      (jnp.asarray(weights),),
    )
  np.testing.assert_allclose(log, expected, atol=tolerance)
  np.testing.assert_allclose(
    tangent, derivative, atol=100 * tolerance * np.abs(derivative).max()
  )


@pytest.mark.parametrize(
  "condition, roots, iterations, bound",
  [(1e2, 2, 12, 2e-5), (1e3, 2, 16, 1e-4), (1e4, 3, 20, 2e-4)],
)
def test_newton_schulz_in_float32(condition, roots, iterations, bound):
  """The errors of specs/matrix_ssl.md 7.3, with room for another seed."""
  rng = np.random.default_rng(0)
  v = np.linalg.qr(rng.normal(size=(64, 64)))[0]
  w = np.logspace(-np.log10(condition), 0, 64)
  expected = v * np.log(w) @ v.T
  got = information.matrix_log(
    jnp.asarray(v * w @ v.T, jnp.float32),
    method="newton_schulz",
    roots=roots,
    iterations=iterations,
  )
  error = np.abs(got - expected).max() / np.abs(expected).max()
  assert error < bound


@pytest.mark.parametrize(
  "low, order, error", [(0.01, 8, 1e-4), (0.01, 16, 4e-9)]
)
def test_gauss_legendre_on_an_interval(low, order, error):
  x = np.linspace(low, 1, 40)
  with jax.enable_x64(True):
    got = information.matrix_log(
      jnp.diag(jnp.asarray(x)),
      method="gauss_legendre",
      order=order,
      interval=(low, 1.0),
    )
  found = np.abs(np.diagonal(got) - np.log(x)).max()
  assert error / 5 < found < error


@pytest.mark.parametrize("method", ["eigh", "gauss_legendre", "newton_schulz"])
def test_derivative_at_repeated_eigenvalues(method):
  """log has derivative 1/c at c I; plain eigh gives NaN there."""
  e = jnp.asarray(definite(2), jnp.float32)
  _, tangent = jax.jvp(
    lambda q: information.matrix_log(q, method=method),
    (2 * jnp.eye(5),),
    (e,),
  )
  np.testing.assert_allclose(tangent, e / 2, rtol=1e-5, atol=1e-6)


@given(seed=strategies.integers(0, 2**32 - 2))
@settings(max_examples=25, deadline=None)
def test_identities(seed):
  a, b = definite(seed), definite(seed + 1)
  with jax.enable_x64(True):
    a, b = jnp.asarray(a), jnp.asarray(b)
    kl, mce, me = KL(a, b), MCE(a, b), ME(a)
    assert kl > 0 and abs(KL(a, a)) < 1e-12
    np.testing.assert_allclose(mce, kl + me, rtol=1e-11)
    # Scaling laws and multiples of the identity: specs/matrix_ssl.md 1.1.
    trace = np.trace(a)
    np.testing.assert_allclose(ME(3 * a), 3 * me - 3 * np.log(3) * trace)
    np.testing.assert_allclose(KL(3 * a, 3 * b), 3 * kl, rtol=1e-9)
    np.testing.assert_allclose(
      MCE(3 * a, 0.5 * b),
      3 * (mce - np.trace(b)) - 3 * np.log(0.5) * trace + 0.5 * np.trace(b),
      rtol=1e-10,
    )
    half = 0.5 * jnp.eye(5)
    np.testing.assert_allclose(
      MCE(a, half), -np.log(0.5) * trace + 2.5, rtol=1e-12
    )
    np.testing.assert_allclose(
      MCE(half, b), -0.5 * np.linalg.slogdet(b)[1] + np.trace(b), rtol=1e-11
    )
    # Least at Q = P.
    gradient = jax.grad(MCE, argnums=1)(a, a)
    np.testing.assert_allclose(gradient, 0, atol=1e-10)


KL = jax.jit(information.matrix_kl)
MCE = jax.jit(information.matrix_cross_entropy)
ME = jax.jit(information.unnormalised_entropy)


def assert_gradients(function, *matrices):
  """Numerical gradients in symmetric matrices, all of them at once."""

  def of_stack(stack):
    return function(*((x + x.T) / 2 for x in stack))

  # What chex.assert_numerical_grads calls, without its mock that turns every
  # stop_gradient into ones: these functions hold logarithms fixed by it.
  jax.test_util.check_grads(
    of_stack, (jnp.stack(matrices),), order=1, atol=1e-5, rtol=1e-5
  )


def test_gradients_also_at_repeated_and_zero_eigenvalues():
  with jax.enable_x64(True):
    a, b = jnp.asarray(definite(0, 3)), jnp.asarray(definite(1, 3))
    repeated = jnp.diag(jnp.asarray([0.5, 0.5, 2.0]))
    for p, q in ((a, b), (repeated, b), (a, repeated), (repeated, repeated)):
      assert_gradients(KL, p, q)
      assert_gradients(ME, p)
    # On the range of a singular matrix the derivative is the ordinary one.
    v = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 2)))[0]
    assert_gradients(
      lambda p, q: KL(v @ p @ v.T, v @ q @ v.T), a[:2, :2], b[:2, :2]
    )


def test_zero_eigenvalues_are_finite_or_infinite_as_they_should():
  with jax.enable_x64(True):
    singular = jnp.diag(jnp.asarray([1.0, 1.0, 0.0]))
    eye = jnp.eye(3)
    for function, value in (
      (lambda q: information.unnormalised_entropy(q), 2.0),
      (lambda q: information.matrix_kl(q, eye), 1.0),
      (lambda q: information.matrix_kl(singular, q), 0.0),
      (lambda q: information.matrix_kl(eye, q), np.inf),
      (lambda q: information.matrix_cross_entropy(eye, q), np.inf),
    ):
      got, gradient = jax.value_and_grad(function)(singular)
      np.testing.assert_allclose(got, value, atol=1e-12)
      assert np.all(np.isfinite(gradient))
    zero = jnp.zeros((3, 3))
    assert information.matrix_kl(zero, zero) == 0
    chex.assert_tree_all_finite(jax.grad(information.matrix_kl)(zero, zero))


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: information.matrix_log(jnp.ones((2, 3))), "q must be square"),
    (
      lambda: information.matrix_log(jnp.eye(2), method="schur"),
      "method must be one of eigh, .*, got 'schur'",
    ),
    (
      lambda: information.matrix_log(jnp.eye(2), method="taylor", order=0),
      "order must be a whole number >= 1, got 0",
    ),
    (
      lambda: information.matrix_log(jnp.eye(2), roots=2),
      "method='eigh' has no option roots",
    ),
    (
      lambda: information.matrix_kl(jnp.eye(2), jnp.eye(3)),
      "q must have the shape of p",
    ),
    (
      lambda: information.matrix_ssl_terms(jnp.eye(2), jnp.eye(2), ridge=0.0),
      "ridge must be positive, got 0.0",
    ),
    (
      lambda: information.matrix_ssl_terms(jnp.ones((2, 3)), jnp.eye(3)),
      r"z must have the shape of target, \(2, 3\), got \(3, 3\)",
    ),
    (
      lambda: information.maximum_entropy_coding(
        jnp.eye(2), jnp.eye(2), epsilon_squared=0.0
      ),
      "epsilon_squared must be positive, got 0.0",
    ),
    (
      lambda: information.unnormalised_entropy(jnp.eye(2, dtype=int)),
      "a must be floating point",
    ),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
