"""Golden values of specs/entropy_reconstruction.md, 3.4 to 3.7, and more."""

import math
import re

import chex
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
import numpy as np
import pytest

from mmae_jax.information.categorical import (
  categorical_entropy,
  categorical_reconstruction,
)
from mmae_jax.information.sphere import (
  er_loss,
  gaussian_reconstruction,
  generalised_normal_reconstruction,
  vmf_entropy,
  vmf_reconstruction,
  vmf_uniform_entropy,
)
from mmae_jax.information.von_mises_fisher import (
  von_mises_fisher_log_normaliser as log_normaliser,
)

RNG = np.random.default_rng(0)
ROW, COLUMN = np.arange(1, 17)[:, None], np.arange(1, 129)[None, :]
A = np.sin(0.7 * ROW * COLUMN) + (
  0.8 * np.cos(0.05 * ROW**2) * np.sin(0.3 * COLUMN)
)
B = A + 0.6 * np.cos(1.3 * ROW + 0.5 * COLUMN)
FLOOR = 1e-7

# kappa: Joe, plug-in and Rec with the floor, Joe without, bound of both.
CONTINUOUS = {
  10.0: (
    (-50.79393185, -50.79402772, -52.44030239),
    -133.90110370,
    (1.64637054, 1.64627466),
  ),
  2.0: (
    (57.39596240, 57.38644555, 56.06106860),
    -127.47963522,
    (1.33489380, 1.32537695),
  ),
}
# estimator: norm and first entry of the gradient at kappa 10.
GRADIENTS = {
  "joe": (0.12568232, 7.45528638e-4),
  "plugin": (0.12568708, 7.46620582e-4),
}


def unit(z):
  return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_the_inputs_are_those_of_the_specification():
  np.testing.assert_allclose(
    unit(A)[0, :3], [0.085269023, 0.1391480932, 0.1442321008], rtol=1e-9
  )
  np.testing.assert_allclose(unit(B)[15, 127], 0.06795906064, rtol=1e-9)
  cosines = unit(A) @ unit(A).T
  np.testing.assert_allclose(
    (cosines.sum() - 16) / 240, 0.01620324025, rtol=1e-9
  )
  np.testing.assert_allclose(
    np.sum(unit(A) * unit(B)) / 16, 0.8883478127, rtol=1e-9
  )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_continuous(dtype):
  def measure(a, b):
    found = {}
    for kappa in CONTINUOUS:
      options = {"kappa": kappa, "bessel_floor": FLOOR}
      found[kappa] = (
        (
          vmf_entropy(a, estimator="joe", **options),
          vmf_entropy(a, estimator="plugin", **options),
          vmf_reconstruction(a, b, **options),
        ),
        vmf_entropy(a, estimator="joe", kappa=kappa),
        tuple(
          -er_loss(a, a, b, kappa=kappa, estimator=estimator)
          for estimator in ("joe", "plugin")
        ),
      )
    return found

  with jax.enable_x64(dtype == "float64"):
    got = jax.jit(measure)(jnp.asarray(A, dtype), jnp.asarray(B, dtype))
  for kappa, expected in CONTINUOUS.items():
    for mine, golden in zip(
      jax.tree.leaves(got[kappa]), jax.tree.leaves(expected), strict=True
    ):
      assert mine.dtype == dtype
      exactly = dtype == "float64"
      np.testing.assert_allclose(
        mine,
        golden,
        rtol=0 if exactly else 2e-7,
        atol=6e-9 if exactly else 1e-5,
      )


def test_gradients():
  """er_loss is the difference of the two, in value and gradient."""

  def difference(a, kappa, estimator):
    entropy = vmf_entropy(a, kappa=kappa, estimator=estimator)
    return vmf_reconstruction(a, B, kappa=kappa) - entropy

  def loss(a, kappa, estimator):
    return er_loss(a, a, B, kappa=kappa, estimator=estimator)

  @jax.jit
  def measure(a, kappa):
    return {
      estimator: [
        jax.value_and_grad(f, argnums=(0, 1))(a, kappa, estimator)
        for f in (loss, difference)
      ]
      for estimator in GRADIENTS
    }

  with jax.enable_x64(True):
    got = measure(jnp.asarray(A), jnp.asarray(10.0))
  for estimator, (norm, first) in GRADIENTS.items():
    (value, grads), (other_value, other_grads) = got[estimator]
    np.testing.assert_allclose(value, other_value, atol=1e-12)
    for mine, other in zip(grads, other_grads, strict=True):
      np.testing.assert_allclose(mine, other, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(grads[0]), norm, rtol=5e-8)
    np.testing.assert_allclose(grads[0][0, 0], first, rtol=5e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_discrete(dtype):
  with jax.enable_x64(dtype == "float64"):
    p, q = jnp.asarray(20 * unit(A), dtype), jnp.asarray(20 * unit(B), dtype)
    got = jax.jit(
      lambda p, q: (
        categorical_entropy(p),
        categorical_entropy(p, epsilon=FLOOR),
        categorical_reconstruction(q, p),
        categorical_reconstruction(q, p, epsilon=FLOOR),
        categorical_reconstruction(q, p, symmetric=False),
      )
    )(p, q)
  golden = (4.76839759, 4.76838479, 4.22559804, 4.22558024, 4.32573042)
  atol = 6e-9 if dtype == "float64" else 3e-6
  np.testing.assert_allclose(got, golden, atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_extremes_of_the_discrete_entropy(dtype):
  def both(logits):
    return [
      categorical_entropy(logits, epsilon=epsilon) for epsilon in (None, FLOOR)
    ]

  with jax.enable_x64(dtype == "float64"):
    one_hot = jnp.asarray(1000 * np.eye(4)[[1, 1, 1]], dtype)
    true, floored = jax.jit(both)(one_hot)
    assert true == 0
    rounded = -1.19209e-7 if dtype == "float32" else -1.0e-7
    np.testing.assert_allclose(floored, rounded, rtol=1e-5)
    got = jax.jit(lambda *flat: [both(x) for x in flat])(
      jnp.zeros((2, 1000), dtype), jnp.zeros((2, 65536), dtype)
    )
  expected = [[math.log(1000), 6.907655], [math.log(65536), 11.083823]]
  np.testing.assert_allclose(got, expected, rtol=3e-7)


def test_uniform_rows_in_closed_form():
  for dim, s in ((128, 1.4762), (256, 1.2155), (1000, 1.0513)):
    log_s = log_normaliser(dim, 10) - log_normaliser(dim, 1e-12)
    assert abs(math.exp(log_s) - s) < 6e-5
  for dim, rows, expected in (
    (128, 4096, -45.482),
    (128, 512, -47.352),
    (128, 256, -48.029),
    (256, 256, -77.767),
    (1000, 1000, -249.308347),
  ):
    digits = 6 if dim == 1000 else 3
    got = vmf_uniform_entropy(rows, dim, bessel_floor=FLOOR)
    assert abs(got - expected) < 0.6 * 10**-digits
  c = log_normaliser(128, 10)
  np.testing.assert_allclose(vmf_uniform_entropy(1, 128), c - 10)
  bounds = [
    10 + vmf_uniform_entropy(k, 128) - c for k in (128, 256, 512, 1024, 4096)
  ]
  np.testing.assert_allclose(bounds, [4.84, 5.53, 6.20, 6.87, 8.08], atol=6e-3)


def test_the_self_check_of_the_authors():
  z = jnp.asarray(RNG.normal(size=(1000, 1000)), jnp.float32)
  got = jax.jit(
    lambda z: [
      vmf_entropy(z, estimator=estimator, bessel_floor=FLOOR)
      for estimator in ("plugin", "joe")
    ]
  )(z)
  np.testing.assert_allclose(got, [-249.30849, -249.30833], rtol=0, atol=3e-4)


def test_identical_orthogonal_and_simplex_rows():
  """Closed forms of 3.7, and Jensen's bound of 3.4 at dim = k = 256."""

  def measure(estimator, *inputs):
    return [
      vmf_entropy(z, estimator=estimator, bessel_floor=FLOOR) for z in inputs
    ]

  with jax.enable_x64(True):
    inputs = (
      jnp.eye(64, 128),
      jnp.eye(64, 256),
      jnp.eye(256) - 1 / 256,
      jnp.ones((8, 128)),
    )
    got = jax.jit(
      lambda *inputs: [measure(name, *inputs) for name in ("joe", "plugin")]
    )(*inputs)
  point = log_normaliser(128, 10, bessel_floor=FLOOR) - 10
  expected = (-49.400797, -79.142111, -77.76403, point)
  np.testing.assert_allclose(got[0], expected, rtol=0, atol=6e-6)
  # All rows see the same density: both estimators are one.
  np.testing.assert_allclose(got[1], got[0], rtol=1e-14)


def test_the_formula_in_numpy():
  z = unit(RNG.normal(size=(7, 5)))
  kappas = (0.5, 10.0, 200.0)
  expected = []
  for kappa in kappas:
    c = log_normaliser(5, kappa)
    density = np.mean(np.exp(kappa * z @ z.T - c), axis=1)
    weights = density / density.sum()
    joe, plugin = -np.mean(np.log(density)), -weights @ np.log(density)
    expected.append((joe, plugin))
  with jax.enable_x64(True):
    got = jax.jit(
      jax.vmap(
        lambda kappa: (
          vmf_entropy(3 * z, kappa=kappa, estimator="joe"),
          vmf_entropy(3 * z, kappa=kappa),
        )
      )
    )(jnp.asarray(kappas))
  np.testing.assert_allclose(np.transpose(got), expected, rtol=1e-12)


def test_inequalities():
  """Plug-in <= Joe; -log k <= er_loss; c - kappa <= H."""
  draws = RNG.normal(size=(300, 2, 6, 3)) * RNG.uniform(0, 3, (300, 1, 1, 1))
  draws[:, :, :, 0] += 1

  def measure(pair, kappa):
    joe, plugin = (
      vmf_entropy(pair[0], kappa=kappa, estimator=estimator)
      for estimator in ("joe", "plugin")
    )
    loss = er_loss(pair[0], pair[0], pair[1], kappa=kappa, estimator="joe")
    return joe, plugin, loss, log_normaliser(3, kappa) - kappa

  with jax.enable_x64(True):
    kappas = jnp.asarray(RNG.uniform(0.1, 50, 300))
    found = jax.jit(jax.vmap(measure))(jnp.asarray(draws), kappas)
  joe, plugin, loss, lowest = map(np.asarray, found)
  assert np.all(plugin <= joe + 1e-12)
  assert np.all(loss >= -math.log(6) - 1e-12)
  assert np.all(plugin >= lowest - 1e-12)
  assert np.all(joe <= lowest + math.log(6) + 1e-12)


def test_scope_is_the_mean_over_groups():
  def measure(z, target):
    groups = jnp.stack([vmf_entropy(z[i : i + 4]) for i in (0, 4, 8)])
    entropy = vmf_entropy(z, scope=4)
    difference = vmf_reconstruction(z, target) - entropy
    loss = er_loss(z, z, target, scope=4)
    return (entropy, jnp.mean(groups)), (loss, difference)

  with jax.enable_x64(True):
    pairs = jax.jit(measure)(*jnp.asarray(RNG.normal(size=(2, 12, 5))))
  for one, other in pairs:
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_variants_of_the_loss():
  """Symmetric entropies; and a predictor with a stopped teacher."""
  stop = jax.lax.stop_gradient

  @jax.jit
  def measure(z1, z2, teacher):
    both = (er_loss(z1, z1, z2) + er_loss(z2, z1, z2)) / 2
    entropy = (vmf_entropy(z1) + vmf_entropy(z2)) / 2
    # Rows of z need not be those of the pairs.
    to_teacher = jax.grad(
      lambda t: er_loss(jnp.concatenate([z1, z2]), z1, stop(t))
    )(teacher)
    return both, vmf_reconstruction(z1, z2) - entropy, to_teacher

  with jax.enable_x64(True):
    both, difference, to_teacher = measure(
      *jnp.asarray(RNG.normal(size=(3, 6, 4)))
    )
  np.testing.assert_allclose(both, difference, atol=1e-12)
  np.testing.assert_array_equal(to_teacher, 0)


def test_relations_of_the_reconstructions():
  @jax.jit
  def measure(a, b):
    root = math.sqrt(0.5)
    return (
      vmf_reconstruction(a, b, kappa=4.0),
      vmf_reconstruction(b, a, kappa=4.0),
      gaussian_reconstruction(a, b, scale=0.5),
      generalised_normal_reconstruction(a, b, power=2, scale=root),
      generalised_normal_reconstruction(a, b, power=1, scale=0.3),
    )

  with jax.enable_x64(True):
    got = measure(jnp.asarray(unit(A)), jnp.asarray(unit(B)))
  # BYOL's mean squared distance, one direction: golden value of 3.7.
  squared = 0.22330437
  vmf = 2 * squared + log_normaliser(128, 4) - 4
  gaussian = 2 * squared + 64 * math.log(2 * math.pi * 0.25)
  absolute = np.mean(np.sum(np.abs(unit(A) - unit(B)), axis=1))
  laplace = absolute / 0.3 + 128 * math.log(0.6)
  expected = (vmf, vmf, gaussian, gaussian, laplace)
  np.testing.assert_allclose(got, expected, rtol=0, atol=2e-8)


def test_the_generalised_normal_integrates_to_one():
  points, weights = np.polynomial.legendre.leggauss(2000)
  # x = u^3 smooths the cusp at zero; both signs by symmetry.
  u = 3 * (points + 1)

  def log_densities(x):
    return [
      -generalised_normal_reconstruction(
        jnp.zeros((1, 1)), x[None, None], power=power, scale=0.8
      )
      for power in (0.7, 1.5, 4.0)
    ]

  with jax.enable_x64(True):
    found = jax.jit(jax.vmap(log_densities))(jnp.asarray(u**3))
  total = np.exp(found) @ (2 * 3 * weights * 3 * u**2)
  np.testing.assert_allclose(total, 1, rtol=1e-6)


LOSSES = {
  "plugin": vmf_entropy,
  "joe": lambda z: vmf_entropy(z, estimator="joe", scope=2),
  "vmf": lambda z: vmf_reconstruction(z, z[::-1]),
  "er": lambda z: er_loss(z, z[::-1], z, kappa=2.0),
  "gaussian": lambda z: gaussian_reconstruction(z, z[::-1]),
  "power 1.5": lambda z: generalised_normal_reconstruction(
    z, z[::-1], power=1.5
  ),
  "power 0.5": lambda z: generalised_normal_reconstruction(
    z, z[::-1], power=0.5
  ),
  "classes": categorical_entropy,
  "cross-entropy": lambda z: categorical_reconstruction(z, z[::-1]),
  "with epsilon": lambda z: (
    categorical_reconstruction(z, 2 * z, epsilon=FLOOR)
    - categorical_entropy(z, epsilon=FLOOR)
  ),
}


def test_numerical_gradients():
  with jax.enable_x64(True):
    z = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    chex.assert_numerical_grads(
      jax.jit(lambda z: jnp.stack([loss(z) for loss in LOSSES.values()])),
      (z,),
      order=1,
      atol=1e-5,
    )


def test_zero_rows_and_collapse_are_finite():
  measure = jax.jit(
    lambda z: {k: jax.value_and_grad(loss)(z) for k, loss in LOSSES.items()}
  )
  some = np.ones((4, 3))
  some[1] = 0
  for rows in (np.zeros((4, 3)), np.ones((4, 3)), some, 1e15 * np.eye(4, 3)):
    for name, found in measure(jnp.asarray(rows, jnp.float32)).items():
      for x in found:
        assert np.all(np.isfinite(x)), name


def test_bfloat16_gives_float32():
  z = jnp.asarray(RNG.normal(size=(4, 3)), jnp.bfloat16)
  for name, loss in LOSSES.items():
    assert jax.eval_shape(loss, z).dtype == jnp.float32, name
  kappa = jnp.asarray(3, jnp.bfloat16)
  entropy = jax.eval_shape(lambda kappa: vmf_entropy(z, kappa=kappa), kappa)
  assert entropy.dtype == jnp.float32


SHARDED = {
  "across devices": lambda a, b: (
    er_loss(b, a, b) + vmf_entropy(a, scope=16, estimator="joe")
  ),
  "scope of a device": lambda a, b: er_loss(a, a, b, scope=4),
  "classes": lambda a, b: (
    categorical_reconstruction(a, b) - categorical_entropy(a)
  ),
}


@pytest.mark.parametrize(
  ("name", "layout"),
  [
    ("across devices", {"data": 8}),
    ("across devices", {"data": 2, "fsdp": 4}),
    ("scope of a device", {"data": 2, "fsdp": 4}),
    ("classes", {"data": 8}),
  ],
)
def test_eight_devices(name, layout):
  """Rows stay sharded: nothing larger than [batch, dim] is gathered."""
  batch, dim = 32, 5
  axes = tuple(layout)
  mesh = Mesh(
    np.array(jax.devices()[:8]).reshape(tuple(layout.values())),
    axes,
    axis_types=(AxisType.Auto,) * len(axes),
  )
  rows, whole = NamedSharding(mesh, P(axes)), NamedSharding(mesh, P())
  with jax.enable_x64(True):
    inputs = jnp.asarray(np.random.default_rng(2).normal(size=(2, batch, dim)))
    measure = jax.value_and_grad(SHARDED[name], argnums=(0, 1))
    expected = jax.jit(measure)(*inputs)
    step = jax.jit(
      measure, in_shardings=rows, out_shardings=(whole, (rows, rows))
    )
    compiled = step.lower(*inputs).compile()
    got = compiled(*(jax.device_put(x, rows) for x in inputs))
  for mine, one in zip(
    jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(mine, one, rtol=1e-10, atol=1e-12)
  text = compiled.as_text()
  moved = re.findall(
    r"= \(?\w+\[([\d,]*)\].* (?:all-\w+|reduce-scatter|collective-\w+)\(", text
  )
  sizes = [math.prod(int(n) for n in shape.split(",") if n) for shape in moved]
  assert sizes and max(sizes) <= batch * dim
  assert f"[{batch},{batch}]" not in text
  gathered = set(re.findall("all-gather|all-to-all|collective-permute", text))
  assert gathered == ({"all-gather"} if name == "across devices" else set())


X = jnp.ones((4, 3))


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: vmf_entropy(jnp.ones(3)), "z must be a matrix"),
    (lambda: vmf_entropy(jnp.ones((4, 3), int)), "floating point, got int32"),
    (lambda: vmf_entropy(X, kappa=0), "kappa must be positive .* got 0"),
    (lambda: vmf_entropy(X, kappa=jnp.ones(2)), "one number, got shape"),
    (lambda: vmf_entropy(X, estimator="kde"), "plugin, joe, got 'kde'"),
    (lambda: vmf_entropy(X, scope=0), "scope must .* got 0"),
    (lambda: vmf_entropy(X, scope=3), "divide the 4 rows of z, got 3"),
    (lambda: vmf_entropy(X, scope=256), "divide the 4 rows of z, got 256"),
    (lambda: vmf_entropy(X, scope=2.0), "scope must .* got 2.0"),
    (lambda: vmf_entropy(X, bessel_floor=-1), "bessel_floor must .* got -1"),
    (lambda: vmf_uniform_entropy(0, 3), "rows must be .* got 0"),
    (lambda: vmf_uniform_entropy(4, 3, kappa=0), "kappa must .* got 0"),
    (lambda: vmf_reconstruction(X, X[:2]), "z2 must have the shape of z1"),
    (lambda: vmf_reconstruction(X, X, kappa=-1), "kappa must be .* got -1"),
    (lambda: gaussian_reconstruction(X, X.T), "target must have the shape"),
    (lambda: gaussian_reconstruction(X, X, scale=0), "scale must .* got 0"),
    (
      lambda: generalised_normal_reconstruction(X, X, power=0),
      "power must be positive, got 0",
    ),
    (lambda: categorical_entropy(jnp.ones(3)), "logits must be a matrix"),
    (lambda: categorical_entropy(X, epsilon=0), "epsilon must .* got 0"),
    (
      lambda: categorical_reconstruction(X, X[:, :2]),
      "target_logits must have the shape of student_logits",
    ),
    (lambda: er_loss(X, X, X[:2]), "target must have the shape of prediction"),
    (lambda: er_loss(X[:, :2], X, X), "z must have the dim of prediction, 3"),
    (lambda: er_loss(X, X, X, kappa=0.0), "kappa must be positive"),
    (lambda: er_loss(X, X, X, scope=-1), "scope must .* got -1"),
  ],
)
def test_refusals(call, message):
  with pytest.raises(ValueError, match=message):
    call()
