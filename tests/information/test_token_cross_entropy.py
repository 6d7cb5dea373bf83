"""Matrix cross-entropy of tokens, against matrices of [dim, dim] in NumPy."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.special

from mmae_jax import information

MCE = information.token_matrix_cross_entropy
VOCABULARY, DIM = 12, 6
ROW, COLUMN = np.arange(1, 13)[:, None], np.arange(1, 7)[None, :]
E = np.sin(0.7 * ROW * COLUMN) + 0.3 * np.cos(1.1 * ROW + COLUMN**2)
E = E / np.linalg.norm(E, axis=1, keepdims=True)
LOGITS = 2 * np.sin(1.3 * np.arange(1, 13))
METHODS = {"taylor": 4, "lanczos": DIM}  # their order, exact of Lanczos

# specs/matrix_ssl.md 5: -e^T log(Q + ridge I) e of the third token.
GOLDEN = {
  ("lanczos", 1.0): -0.2781877475,
  ("taylor", 1.0): -0.2769073940,
  ("lanczos", 0.5): 0.2011573380,
  ("taylor", 0.5): 0.2008785951,
}


@pytest.fixture(autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


def hard_logits():
  """Rows: two random, peaked on and off the target, impossible, flat, huge."""
  logits = np.random.default_rng(0).normal(size=(8, VOCABULARY)) * 2
  logits[2, 3] = logits[3, 5] = 400.0
  logits[4, [3, 7, 8]] = -np.inf
  logits[5] = 0.0
  logits[6] *= 1e30
  logits[7] = -1e-30 * logits[7] - 1e5
  return logits, np.full(8, 3)


def naive(logits, targets, e, *, method, order, ridge, smoothing=0.0):
  """-tr(P log(Q + ridge I)) + tr Q by matrices, one token after the other."""
  values = []
  for q, y in zip(scipy.special.softmax(logits, 1), targets, strict=True):
    p = np.full(len(q), smoothing / len(q))
    p[y] += 1 - smoothing
    big_p, big_q = (e.T * p) @ e, (e.T * q) @ e
    if method == "lanczos":
      w, v = np.linalg.eigh(big_q + ridge * np.eye(e.shape[1]))
      log = (v * np.log(w)) @ v.T
    else:
      m = big_q + (ridge - 1) * np.eye(e.shape[1])
      log = sum(
        (-1) ** (k + 1) / k * np.linalg.matrix_power(m, k)
        for k in range(1, order + 1)
      )
    values.append(np.trace(big_q) - np.trace(big_p @ log))
  return np.array(values)


def value_and_gradients(f, logits, e):
  """Values, and the gradients of a sum that weighs every token differently."""

  def total(logits, e):
    values = f(logits, e)
    return jnp.sum(values * (1 + jnp.arange(values.size))), values

  gradient = jax.jit(jax.grad(total, (0, 1), has_aux=True))
  (by_logits, by_e), values = gradient(logits, e)
  return values, by_logits, by_e


@pytest.mark.parametrize("method, ridge", GOLDEN)
def test_golden_values(method, ridge):
  f = functools.partial(MCE, order=METHODS[method], method=method, ridge=ridge)
  logits, target = jnp.asarray(LOGITS)[None], jnp.asarray([2])
  got = f(logits, target, jnp.asarray(E), plus_trace=False)
  np.testing.assert_allclose(got, GOLDEN[method, ridge], rtol=0, atol=1e-10)
  with_trace = f(logits, target, jnp.asarray(E))
  np.testing.assert_allclose(with_trace, got + 1, rtol=1e-12)


@pytest.mark.parametrize("method, order", [*METHODS.items(), ("taylor", 1)])
def test_hard_inputs_are_the_naive_form_and_finite(method, order):
  """Also embeddings that are twice the same, and zero."""
  logits, targets = hard_logits()
  e = E.copy()
  e[4], e[9] = e[3], 0.0
  options = {"method": method, "order": order, "ridge": 0.3}
  f = lambda x, e: MCE(x, jnp.asarray(targets), e, **options)
  results = value_and_gradients(f, jnp.asarray(logits), jnp.asarray(e))
  chex.assert_tree_all_finite(results)
  expected = naive(logits, targets, e, **options)
  np.testing.assert_allclose(results[0], expected, rtol=0, atol=1e-10)
  # An impossible token stays so.
  assert np.all(results[1][4, [3, 7, 8]] == 0)
  with jax.enable_x64(False):
    narrow = value_and_gradients(
      f, jnp.asarray(logits, jnp.float32), jnp.asarray(e, jnp.float32)
    )
  for x, y in zip(narrow, results, strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=3e-5)


@pytest.mark.parametrize("order", [2, 3])
def test_orthonormal_embeddings_leave_scalars(order):
  """Q has the eigenvalues q_i: Taylor's series of one number."""
  logits = np.random.default_rng(1).normal(size=(3, 5))
  e = np.linalg.qr(np.random.default_rng(2).normal(size=(7, 5)))[0].T
  targets = np.array([0, 4, 2])
  x = scipy.special.softmax(logits, 1)[range(3), targets] + 0.6 - 1
  series = sum((-1) ** (k + 1) / k * x**k for k in range(1, order + 1))
  arrays = jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(e)
  got = MCE(*arrays, order=order, ridge=0.6)
  np.testing.assert_allclose(got, 1 - series, rtol=0, atol=1e-13)
  # Two different eigenvalues matter to e_y: its own and none other.
  exact = MCE(*arrays, order=order, ridge=0.6, method="lanczos")
  np.testing.assert_allclose(exact, 1 - np.log1p(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_collapse(method):
  """All embeddings equal: Q = e e^T whatever the model says."""
  e = jnp.tile(jnp.asarray(E[:1]), (VOCABULARY, 1))
  logits, targets = jnp.asarray(LOGITS)[None], jnp.asarray([2])
  f = lambda x, e: MCE(x, targets, e, method=method, order=3, ridge=0.5)
  values, by_logits, by_e = value_and_gradients(f, logits, e)
  x = 0.5
  log = np.log1p(x) if method == "lanczos" else x - x**2 / 2 + x**3 / 3
  np.testing.assert_allclose(values, 1 - log, rtol=1e-12)
  np.testing.assert_allclose(by_logits, 0, atol=1e-12)
  chex.assert_tree_all_finite(by_e)


@pytest.mark.parametrize(
  "method, order, smoothed",
  [
    ("taylor", 4, ""),
    ("taylor", 3, "exactly"),
    ("taylor", 2, "by signs"),
    ("lanczos", 3, "by signs"),
  ],
)
def test_gradients_are_numerical_ones(method, order, smoothed):
  rng = np.random.default_rng(3)
  signs = rng.choice([-1.0, 1.0], (2, 5)) if smoothed == "by signs" else None
  e = jnp.asarray(rng.normal(size=(5, 3))) / 3
  f = lambda x, e: MCE(
    x,
    jnp.asarray([[1], [4]]),
    e,
    method=method,
    order=order,
    ridge=0.4,
    temperature=1.7,
    smoothing=0.2 if smoothed else 0.0,
    smoothing_signs=signs,
  )
  logits = jnp.asarray(rng.normal(size=(2, 1, 5)))
  chex.assert_numerical_grads(
    jax.jit(f), (logits, e), order=1, atol=1e-6, rtol=1e-6, modes=("rev",)
  )


@pytest.mark.parametrize("method", METHODS)
def test_smoothing(method):
  """Exactly, and with signs whose mean s s^T is the identity."""
  rng = np.random.default_rng(4)
  logits, targets = rng.normal(size=(3, 16)), np.array([0, 5, 15])
  e = rng.normal(size=(16, 4)) / 4
  options = {"method": method, "order": 4, "ridge": 0.5, "smoothing": 0.3}
  expected = naive(logits, targets, e, **options)
  results = [
    value_and_gradients(
      lambda x, e, s=signs: MCE(
        x, jnp.asarray(targets), e, smoothing_signs=s, **options
      ),
      jnp.asarray(logits),
      jnp.asarray(e),
    )
    for signs in (None, jnp.asarray(scipy.linalg.hadamard(16), jnp.int8))
  ]
  np.testing.assert_allclose(results[0][0], expected, rtol=0, atol=1e-12)
  for exact, estimated in zip(*results, strict=True):
    np.testing.assert_allclose(estimated, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_change_nothing(method):
  rng = np.random.default_rng(5)
  logits = jnp.asarray(rng.normal(size=(2, 7, VOCABULARY)))
  targets = jnp.asarray(rng.integers(0, VOCABULARY, (2, 7)))
  whole, *others = (
    value_and_gradients(
      lambda x, e, c=chunk: MCE(
        x, targets, e, method=method, order=3, ridge=0.8, chunk=c
      ).reshape(-1),
      logits,
      jnp.asarray(E),
    )
    for chunk in (None, 7, 5)
  )
  for other in others:
    for x, y in zip(other, whole, strict=True):
      np.testing.assert_allclose(x, y, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", [1, 3, 4])
def test_products(order):
  """As many as are said, and none for embeddings without a gradient."""
  tokens, vocabulary, dim = 32, 256, 128
  arrays = (
    jnp.zeros((tokens, vocabulary), jnp.float32),
    jnp.zeros(tokens, jnp.int32),
    jnp.zeros((vocabulary, dim), jnp.float32),
  )

  def products(f):
    flops = jax.jit(f).lower(*arrays).compile().cost_analysis()["flops"]
    return flops / (2 * tokens * vocabulary * dim)

  f = lambda x, y, e: jnp.mean(MCE(x, y, e, order=order))
  held = lambda x, y, e: f(x, y, jax.lax.stop_gradient(e))
  # Elementwise work comes to less than half a product at this size.
  assert 0 <= products(f) - 2 * ((order + 1) // 2) < 0.5
  for attached in (held, jax.jit(held)):
    found = products(jax.value_and_grad(attached, (0, 2)))
    assert 0 <= found - max(2 * order - 1, 2) < 0.5
  # Of a single chunk the compiler sees what both passes over it share: order
  # more remain, and one.
  found = products(jax.value_and_grad(f, (0, 2)))
  assert 0 <= found - 3 * order < 1


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_is_not_widened(method):
  """Within 1e-2 nats: 2^-8 of rounding in each of the products' factors."""
  rng = np.random.default_rng(6)
  e = rng.normal(size=(64, 32))
  e = jnp.asarray(e / np.linalg.norm(e, axis=1, keepdims=True), jnp.bfloat16)
  logits = jnp.asarray(rng.normal(size=(9, 64)) * 2, jnp.bfloat16)
  targets = jnp.argmax(logits, axis=1)
  f = lambda x, e: MCE(x, targets, e, method=method, order=4, plus_trace=False)
  results = value_and_gradients(f, logits, e)
  assert [x.dtype for x in results] == [jnp.float32, *[jnp.bfloat16] * 2]
  exact = value_and_gradients(f, *(x.astype(jnp.float64) for x in (logits, e)))
  np.testing.assert_allclose(results[0], exact[0], rtol=0, atol=1e-2)
  for x, y in zip(results[1:], exact[1:], strict=True):
    error = np.linalg.norm(np.asarray(x, np.float64) - y) / np.linalg.norm(y)
    assert error < 2e-2
  text = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(f(x, e))))(logits))
  assert not re.search(r"f(32|64)\[64,32\] = convert", text)


@pytest.mark.parametrize("method", METHODS)
def test_devices_agree_and_gather_no_vocabulary(method):
  """1 and 2 x 4 devices, the vocabulary split over four."""
  rng = np.random.default_rng(7)
  vocabulary, dim = 32, 5
  e = rng.normal(size=(vocabulary, dim)) / 3
  logits = rng.normal(size=(4, 6, vocabulary))
  targets = rng.integers(0, vocabulary, (4, 6))
  results = {}
  for layout in ((1, 1), (2, 4)):
    mesh = jax.make_mesh(
      layout,
      ("data", "model"),
      axis_types=(jax.sharding.AxisType.Auto,) * 2,
      devices=jax.devices()[: layout[0] * layout[1]],
    )
    specs = jax.P("data", None, "model"), jax.P("data"), jax.P("model")
    split = [jax.NamedSharding(mesh, spec) for spec in specs]
    arrays = [
      jax.device_put(x, s)
      for x, s in zip((logits, targets, e), split, strict=True)
    ]
    f = lambda x, y, e: jnp.mean(MCE(x, y, e, method=method, order=2, chunk=12))
    program = (
      jax.jit(
        jax.value_and_grad(f, (0, 2)),
        out_shardings=(None, (split[0], split[2])),
      )
      .lower(*arrays)
      .compile()
    )
    results[layout] = program(*arrays)
    kinds = "all-gather|all-to-all|collective-permute"
    for moved in re.findall(rf"= (.*?) (?:{kinds})", program.as_text()):
      sizes = [
        np.prod([int(n) for n in shape.split(",")])
        for shape in re.findall(r"f64\[([\d,]+)\]", moved)
      ]
      # Lanczos' eigenvalues are not split; of the vocabulary nothing moves.
      assert method == "lanczos" and max(sizes) <= 12 * 4 * dim
  chex.assert_trees_all_close(
    *jax.device_get(list(results.values())), rtol=0, atol=1e-13
  )


def test_checks_embeddings():
  e = information.normalise_rows(jnp.asarray(E))
  for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
    information.check_token_embeddings(e.astype(dtype))
  mesh = jax.make_mesh(
    (4,),
    ("model",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:4],
  )
  split = jax.NamedSharding(mesh, jax.P("model"))
  information.check_token_embeddings(jax.device_put(e, split), ridge=0.5)
  for bad, row in ((1.1, 11), (np.nan, 2)):
    with pytest.raises(ValueError, match=f"norm at most 1 .* in row {row}: "):
      information.check_token_embeddings(
        jax.device_put(e.at[row].multiply(bad), split)
      )
  with pytest.raises(ValueError, match=r"ridge must be in \(0, 1\]"):
    information.check_token_embeddings(e, ridge=2.0)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"order": 0}, "order must be a whole number >= 1, got 0"),
    ({"method": "eigh"}, "method must be one of taylor, lanczos, got 'eigh'"),
    ({"ridge": 1.5}, r"ridge must be in \(0, 1\] for method='taylor', got 1.5"),
    ({"ridge": 0.0}, r"ridge must be in \(0, 1\] for method='taylor', got 0.0"),
    (
      {"ridge": 0.0, "method": "lanczos"},
      "ridge must be positive for method='lanczos', got 0.0",
    ),
    ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
    ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), got 1.0"),
    ({"chunk": 0}, "chunk must be a whole number >= 1, got 0"),
    (
      {"smoothing_signs": jnp.ones((2, 3))},
      r"smoothing_signs must be \[probes, 12\], got shape \(2, 3\)",
    ),
    ({"targets": jnp.ones(2)}, "targets must be whole numbers, got float"),
    (
      {"targets": jnp.ones(3, int)},
      r"logits must be .* \(3, 12\), and not empty, got shape \(2, 12\)",
    ),
    ({"logits": jnp.ones((2, 12), int)}, "logits must be floating point"),
    ({"embeddings": jnp.ones(12)}, "embeddings must be a matrix"),
  ],
)
def test_refuses(options, message):
  arrays = {
    "logits": jnp.ones((2, VOCABULARY)),
    "targets": jnp.ones(2, int),
    "embeddings": jnp.asarray(E),
  }
  with pytest.raises(ValueError, match=message):
    MCE(**arrays | options)
