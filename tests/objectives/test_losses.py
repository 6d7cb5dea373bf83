"""The losses of the joint-embedding methods.

Golden values of the specifications; every loss against its formula in float64
NumPy, written as it stands there (loops, no smaller side), in value and in
gradient by differences of that formula; and what each must not depend on.
"""

import dataclasses
import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import numpy as np
import optax
import pytest

from mmae_jax import information
from mmae_jax.information import bounds
from mmae_jax.objectives.barlow_twins import barlow_twins_loss
from mmae_jax.objectives.byol import byol_loss
from mmae_jax.objectives.matrix_ssl import matrix_ssl_loss
from mmae_jax.objectives.mec import mec_loss
from mmae_jax.objectives.moco_v2 import moco_v2_loss
from mmae_jax.objectives.moco_v3 import moco_v3_loss
from mmae_jax.objectives.simclr import simclr_loss
from mmae_jax.objectives.simsiam import simsiam_loss
from mmae_jax.objectives.spectral_contrastive import spectral_contrastive_loss
from mmae_jax.objectives.vicreg import vicreg_loss

# Fewer rows than half the features, more rows than features.
WIDE, TALL = (3, 8), (6, 4)


# Losses on cosines between samples have one side alone.
ONE_SIDED = ("simclr", "simsiam", "byol", "moco_v2", "moco_v3")


# --- The formulas ------------------------------------------------------------
def unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def beside(n):
  """All pairs of two different numbers below n."""
  return [(i, j) for i in range(n) for j in range(n) if i != j]


def cross_entropy(logits, label):
  return np.log(np.sum(np.exp(logits))) - logits[label]


def barlow_twins(z1, z2, off_diagonal_weight):
  batch, dim = z1.shape
  x1, x2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z1, z2))
  c = x1.T @ x2 / batch
  off_diagonal = sum(c[j, k] ** 2 for j, k in beside(dim))
  on_diagonal = sum((1 - c[j, j]) ** 2 for j in range(dim))
  return on_diagonal + off_diagonal_weight * off_diagonal


def spectral_contrastive(z1, z2, squared_radius):
  batch = len(z1)

  def clip(row):
    length = np.linalg.norm(row)
    root = np.sqrt(squared_radius)
    return row if length < root else root * row / length

  z1, z2 = ([clip(row) for row in z] for z in (z1, z2))
  attraction = -2 * np.mean([a @ b for a, b in zip(z1, z2, strict=True)])
  repulsion = np.mean([(z1[i] @ z2[j]) ** 2 for i, j in beside(batch)])
  return (attraction + repulsion) / squared_radius


def simclr(z1, z2, temperature):
  batch = len(z1)
  z = unit(np.concatenate([z1, z2]))
  total = 0.0
  for anchor in range(2 * batch):
    positive = (anchor + batch) % (2 * batch)
    others = [positive] + [
      c for c in range(2 * batch) if c not in (anchor, positive)
    ]
    total += cross_entropy(z[others] @ z[anchor] / temperature, 0)
  return total / (2 * batch)


def vicreg(z1, z2, invariance, variance, covariance):
  dim = z1.shape[1]
  loss = invariance * np.mean((z1 - z2) ** 2)
  for z in (z1, z2):
    deviation = np.sqrt(np.var(z, axis=0, ddof=1) + 1e-4)
    loss += variance * np.mean(np.maximum(0, 1 - deviation)) / 2
    c = np.cov(z.T)
    loss += covariance * sum(c[j, k] ** 2 for j, k in beside(dim)) / dim
  return loss


def simsiam(p1, p2, z1, z2):
  cosines = [np.sum(unit(p) * unit(z), 1) for p, z in ((p1, z2), (p2, z1))]
  return -np.mean(cosines)


def byol(p1, p2, z1, z2):
  return 4 + 4 * simsiam(p1, p2, z1, z2)


def moco_v2(queries, keys, queue, temperature):
  return np.mean(
    [
      cross_entropy(np.stack([k, *unit(queue)]) @ q / temperature, 0)
      for q, k in zip(unit(queries), unit(keys), strict=True)
    ]
  )


def moco_v3(q1, q2, k1, k2, temperature):
  total = 0.0
  for queries, keys in ((q1, k2), (q2, k1)):
    for i, q in enumerate(unit(queries)):
      total += cross_entropy(unit(keys) @ q / temperature, i)
  return 2 * temperature * total / len(q1)


def taylor_log(q, order):
  e = q - np.eye(len(q))
  return sum(
    (-1) ** (k + 1) / k * np.linalg.matrix_power(e, k)
    for k in range(1, order + 1)
  )


def mec(p1, p2, z1, z2, lambda_inverse, order):
  batch = len(p1)
  total = 0.0
  for z, p in ((z1, p2), (z2, p1)):
    c = unit(z) @ unit(p).T / lambda_inverse
    total += np.trace(taylor_log(np.eye(batch) + c, order)) / 2
  return -lambda_inverse / batch * total


def matrix_ssl(
  p1, p2, z1, z2, uniformity, ridge, gamma, order, form, symmetrise
):
  batch, dim = p1.shape
  j = np.eye(batch) - np.ones((batch, batch)) / batch
  eye = np.eye(dim)
  total = 0.0
  for p, z in ((p2, z1), (p1, z2)):
    p, z = unit(p), unit(z)
    cross = p.T @ j @ z / batch
    cross = (cross + cross.T) / 2 if symmetrise else cross
    target, own = p.T @ j @ p / batch, z.T @ j @ z / batch
    if form == "program":
      pairs = (
        (uniformity * eye, cross + ridge * eye, 1.0),
        (target + ridge * eye, own + ridge * eye, gamma),
      )
      total += sum(
        -weight * np.trace(a @ taylor_log(q, order)) for a, q, weight in pairs
      )
    else:
      pairs = (
        (eye / dim + ridge * eye, cross + ridge * eye, uniformity),
        (target + ridge * eye, own + ridge * eye, gamma),
      )
      total += sum(
        weight * (-np.trace(a @ taylor_log(q, order)) + np.trace(q))
        for a, q, weight in pairs
      )
  return total / 2


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
  """A loss, its formula, and which of its inputs have a gradient."""

  loss: object
  formula: object
  gradient: tuple
  settings: dict
  inputs: int = 4

  def __call__(self, *inputs):
    value = self.loss(*inputs, **self.settings)
    return value[0] if isinstance(value, tuple) else value

  def expected(self, *inputs):
    return self.formula(*inputs, **self.settings)

  def draw(self, shape, seed=0):
    """Branches that agree somewhat, of rows and features of any size."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=shape) * np.linspace(0.2, 1.5, shape[1])
    drawn = [
      shared + 0.4 * rng.normal(size=shape) + 0.1 for _ in range(self.inputs)
    ]
    if self.loss is moco_v2_loss:
      drawn[2] = rng.normal(size=(7, shape[1]))
    return drawn


CASES = {
  "barlow_twins": Case(
    barlow_twins_loss, barlow_twins, (0, 1), {"off_diagonal_weight": 0.3}, 2
  ),
  "spectral_contrastive": Case(
    spectral_contrastive_loss,
    spectral_contrastive,
    (0, 1),
    {"squared_radius": 4.0},
    2,
  ),
  "simclr": Case(simclr_loss, simclr, (0, 1), {"temperature": 0.3}, 2),
  "vicreg": Case(
    vicreg_loss,
    vicreg,
    (0, 1),
    {"invariance": 3.0, "variance": 2.0, "covariance": 0.7},
    2,
  ),
  "simsiam": Case(simsiam_loss, simsiam, (0, 1), {}),
  "byol": Case(byol_loss, byol, (0, 1), {}),
  "moco_v2": Case(moco_v2_loss, moco_v2, (0,), {"temperature": 0.2}, 3),
  "moco_v3": Case(moco_v3_loss, moco_v3, (0, 1), {"temperature": 0.5}),
  "mec": Case(mec_loss, mec, (2, 3), {"lambda_inverse": 5.0, "order": 4}),
  **{
    f"matrix_ssl, {form}{', symmetrised' * symmetrise}": Case(
      matrix_ssl_loss,
      matrix_ssl,
      (2, 3),
      {
        "uniformity": 0.7,
        "ridge": 0.6,
        "gamma": 1.3,
        "order": 4,
        "form": form,
        "symmetrise": symmetrise,
      },
    )
    for form, symmetrise in (
      ("program", False),
      ("paper", False),
      ("program", True),
    )
  },
}
on_cases = pytest.mark.parametrize("name", CASES)


def differences(formula, inputs, which, step=1e-6):
  """Central differences of a formula in its inputs."""
  gradients = []
  for number in which:
    gradient = np.zeros_like(inputs[number])
    for entry in np.ndindex(gradient.shape):
      ends = []
      for sign in (1, -1):
        moved = [x.copy() for x in inputs]
        moved[number][entry] += sign * step
        ends.append(formula(*moved))
      gradient[entry] = (ends[0] - ends[1]) / (2 * step)
    gradients.append(gradient)
  return gradients


@functools.cache
def compiled(name):
  """Value and gradients in all inputs; tests share it, and its programs."""
  case = CASES[name]
  return jax.jit(jax.value_and_grad(case, tuple(range(case.inputs))))


@pytest.mark.parametrize(
  "name, shape",
  [
    (name, shape)
    for name, shape in itertools.product(CASES, (WIDE, TALL))
    if shape == TALL or name not in ONE_SIDED
  ],
)
def test_formula_and_gradient(name, shape):
  case = CASES[name]
  inputs = case.draw(shape)
  with jax.enable_x64(True):
    value, gradients = compiled(name)(*inputs)
    assert value.dtype == jnp.float64 and value.shape == ()
  np.testing.assert_allclose(value, case.expected(*inputs), rtol=1e-11)
  moving = [np.asarray(gradients[i]) for i in case.gradient]
  for got, expected in zip(
    moving, differences(case.expected, inputs, case.gradient), strict=True
  ):
    assert np.abs(got).max() > 1e-3
    np.testing.assert_allclose(got, expected, atol=1e-7)
  for stopped in set(range(case.inputs)) - set(case.gradient):
    assert not np.any(gradients[stopped])


@pytest.mark.parametrize("name", [n for n in CASES if n not in ONE_SIDED])
def test_fewer_images_than_features_on_eight_devices(name):
  """The published recipes' side: both features are gathered, nothing larger."""
  case, shape = CASES[name], (16, 48)
  inputs = case.draw(shape)
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  with jax.enable_x64(True):
    rows = [jax.device_put(x, NamedSharding(mesh, P("data"))) for x in inputs]
    step = compiled(name).lower(*rows).compile()
    value, gradients = step(*rows)
    expected_value, expected = compiled(name)(*inputs)
  np.testing.assert_allclose(value, expected_value, rtol=1e-12)
  for got, wanted in zip(gradients, expected, strict=True):
    np.testing.assert_allclose(got, wanted, atol=1e-12)
  text = step.as_text()
  if not name.startswith(("mec", "matrix_ssl")):
    # Powers of a [batch, batch] matrix exchange its rows; one product need not.
    assert not re.findall("all-to-all|collective-permute", text)
  for found in re.findall(r"= \w+\[([\d,]+)\]\S* all-gather", text):
    assert math.prod(map(int, found.split(","))) <= 2 * math.prod(shape)


def equivalent(name, inputs):
  """Pairs of inputs to which a loss should give one value."""
  rng = np.random.default_rng(1)
  batch, dim = inputs[0].shape
  order = rng.permutation(batch)
  pairs = {
    # Of all branches alike; the queue has an order of its own.
    "rows": (inputs, [x[order] if len(x) == batch else x[::-1] for x in inputs])
  }
  if name not in ("barlow_twins", "spectral_contrastive", "vicreg"):
    scaled = [x * np.exp(rng.normal(size=(len(x), 1))) for x in inputs]
    pairs["lengths of rows"] = (inputs, scaled)
  if name == "barlow_twins":
    # The floor 1e-5 is nothing beside such variances.
    large = [1e3 * x for x in inputs]
    scales = np.exp(rng.normal(size=dim)) * [1, -1, 1, -1]
    pairs["columns"] = (large, [x * scales + 7 for x in large])
  elif name != "vicreg":
    turn, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    pairs["rotations"] = (inputs, [x @ turn for x in inputs])
  if name != "moco_v2":
    swapped = [inputs[i ^ 1] for i in range(len(inputs))]
    pairs["views"] = (inputs, swapped)
  return pairs


@on_cases
def test_invariances_and_collapse(name):
  loss = compiled(name)
  with jax.enable_x64(True):
    for what, (inputs, others) in equivalent(
      name, CASES[name].draw(TALL)
    ).items():
      np.testing.assert_allclose(
        loss(*others)[0], loss(*inputs)[0], rtol=1e-8, err_msg=what
      )
    for row in (1.0, 0.0):
      collapsed = loss(*(np.full_like(x, row) for x in inputs))
      assert all(np.isfinite(x).all() for x in jax.tree.leaves(collapsed))


@on_cases
def test_single_precision_and_bfloat16(name):
  """bfloat16 inputs are widened before anything is computed with them."""
  case = CASES[name]
  coarse = [jnp.asarray(x, jnp.bfloat16) for x in case.draw(TALL)]
  inputs = [np.asarray(x, np.float64) for x in coarse]
  value = jax.jit(case)(*coarse)
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, case.expected(*inputs), rtol=1e-5)


# --- Golden values -----------------------------------------------------------
@functools.cache
def golden_pair():
  """F and G of specs/masked_autoencoders.md, section 8."""
  i, j = np.arange(16)[:, None], np.arange(8)[None, :]
  f = np.sin(0.37 * (i + 1) * (j + 1)) + 0.25 * np.cos(1.3 * i)
  return f, f + 0.3 * np.cos(0.9 * i * (j + 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_golden_barlow_twins_and_spectral(dtype):
  """The specification prints seven digits."""
  with jax.enable_x64(dtype == "float64"):
    results = jax.jit(
      lambda z1, z2: (
        barlow_twins_loss(z1, z2),
        spectral_contrastive_loss(z1, z2),
        spectral_contrastive_loss(z1, z2, squared_radius=10.0),
      )
    )(*(z.astype(dtype) for z in golden_pair()))
  for (value, parts), expected in zip(
    results,
    (
      (0.0141639, {"on_diagonal": 0.0103260, "off_diagonal": 0.7525241}),
      (-1.8483812, {"attraction": -1.9228173, "repulsion": 0.0744361}),
      (-0.7367348, {"attraction": -0.9017558, "repulsion": 0.1650210}),
    ),
    strict=True,
  ):
    assert value.dtype == dtype
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=6e-8),
      (value, parts),
      expected,
    )


@functools.cache
def golden_branches():
  """p1, p2, z1, z2 of specs/matrix_ssl.md, section 2.8."""
  i, j = np.arange(1, 9)[:, None], np.arange(1, 7)[None, :]
  wave = np.sin(0.37 * i * j)
  return (
    np.cos(0.53 * i + 0.21 * j**2) + 0.5 * wave,
    np.cos(0.53 * i + 0.21 * j**2 + 0.03 * i) + 0.5 * wave,
    wave + 0.1 * i,
    np.sin(0.37 * i * j + 0.05 * j) + 0.1 * i,
  )


# uniformity, ridge, gamma, order -> loss, norm of the gradient in z1, its
# first entry, the first entry of that in z2.
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_golden_matrix_ssl(dtype):
  exact = dtype == "float64"
  with jax.enable_x64(exact):
    p1, p2, z1, z2 = (jnp.asarray(x, dtype) for x in golden_branches())

    @jax.jit
    def all_of(z1, z2):
      def loss(z1, z2, uniformity, ridge, gamma, order):
        return matrix_ssl_loss(
          p1,
          p2,
          z1,
          z2,
          uniformity=uniformity,
          ridge=ridge,
          gamma=gamma,
          order=order,
        )

      # Of single precision one row says enough.
      return [
        jax.value_and_grad(loss, (0, 1), has_aux=True)(z1, z2, *settings)
        for settings in list(GOLDEN)[: None if exact else 1]
      ]

    results = all_of(z1, z2)
    assert results[0][0][0].dtype == dtype
  for ((value, _), (g1, g2)), expected in zip(
    results, GOLDEN.values(), strict=False
  ):
    np.testing.assert_allclose(value, expected[0], rtol=1e-9 if exact else 1e-5)
    np.testing.assert_allclose(
      (np.linalg.norm(g1), g1[0, 0], g2[0, 0]),
      expected[1:],
      rtol=1e-8 if exact else 1e-4,
      atol=1e-10 if exact else 1e-7,
    )
  parts = results[0][0][1]
  np.testing.assert_allclose(
    (parts["uniformity"], parts["alignment"]),
    (-0.2437474192, -0.5461049575),
    rtol=1e-9 if exact else 1e-5,
  )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_golden_mec(dtype):
  """With a ratio that is traced, as that of its warm-up is."""
  exact = dtype == "float64"
  with jax.enable_x64(exact):
    inputs = [jnp.asarray(x, dtype) for x in golden_branches()]
    traced = jax.jit(lambda ratio: mec_loss(*inputs, lambda_inverse=ratio))
    for ratio, expected in (
      (32.0, -0.2273519687),
      (256.0, -0.2283487910),
      (1.5, -0.2238447802),
    ):
      value = traced(jnp.asarray(ratio, dtype))
      assert value.dtype == dtype
      np.testing.assert_allclose(value, expected, rtol=1e-9 if exact else 1e-5)


# --- Identities --------------------------------------------------------------
def test_simclr_is_a_softmax_cross_entropy():
  @jax.jit
  def both(z1, z2):
    z = information.normalise_rows(jnp.concatenate([z1, z2]))
    logits = jnp.where(jnp.eye(10, dtype=bool), -1e9, z @ z.T / 0.1)
    entropies = optax.softmax_cross_entropy_with_integer_labels(
      logits, jnp.roll(jnp.arange(10), 5)
    )
    return simclr_loss(z1, z2), jnp.mean(entropies)

  with jax.enable_x64(True):
    got, expected = both(*CASES["simclr"].draw((5, 6)))
  np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_contrastive_losses_are_stable():
  """Cosines of 1 at a small temperature: exp would leave float32."""
  temperature = 1e-3

  @jax.jit
  def losses(same, queue):
    return (
      simclr_loss(same, same, temperature=temperature),
      moco_v2_loss(same, same, queue, temperature=temperature),
      moco_v3_loss(same, same, same, same, temperature=temperature),
    )

  np.testing.assert_allclose(
    losses(jnp.ones((4, 3)), jnp.ones((5, 3))),
    (np.log(7), np.log(6), 4 * temperature * np.log(4)),
    # A cosine of 1 has a round-off of 1e-7, here over the temperature.
    rtol=2e-4,
  )


def test_moco_v3_is_what_info_nce_leaves():
  @jax.jit
  def both(q1, q2, k1, k2):
    caps = [
      bounds.info_nce_cap(*x, temperature=0.5) for x in ((q1, k2), (q2, k1))
    ]
    rest = sum(cap.right - cap.left for cap in caps)  # times 2 t, which is 1
    return moco_v3_loss(q1, q2, k1, k2, temperature=0.5), rest

  got, expected = both(*CASES["moco_v3"].draw((5, 6)))
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_range_of_byol_and_simsiam():
  @jax.jit
  def losses(p):
    return (
      byol_loss(p, 2 * p, 3 * p, p),
      byol_loss(p, p, -p, -p),
      simsiam_loss(p, p, -p, 5 * p),
    )

  p = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  np.testing.assert_allclose(losses(p), (0, 8, 0), atol=1e-6)


def test_shortened_rows():
  """A long row counts as its direction; a short one as it is."""

  @jax.jit
  @jax.value_and_grad
  def loss(row):
    rows = jnp.stack([row, jnp.array([0.6, -0.8])])
    return spectral_contrastive_loss(
      rows, jnp.array([[0.3, 0.5], [-0.7, 1.1]]), squared_radius=4.0
    )[0]

  (long, along), (longer, _) = (loss(k * np.array([3.0, 4.0])) for k in (1, 9))
  np.testing.assert_allclose(longer, long, rtol=1e-6)
  np.testing.assert_allclose(along @ np.array([3.0, 4.0]), 0, atol=1e-6)
  (short, along), (shorter, _) = (
    loss(k * np.array([0.3, 0.4])) for k in (2, 1)
  )
  assert abs(short - shorter) > 1e-2
  assert abs(along @ np.array([3.0, 4.0])) > 1e-2


def test_mec_tends_to_the_log_determinant():
  """And its first order is minus the mean cosine, whatever the ratio."""
  p1, p2, z1, z2 = inputs = CASES["mec"].draw(TALL)
  expected = -np.mean(
    [
      9 / 6 * np.linalg.slogdet(np.eye(6) + unit(z) @ unit(p).T / 9)[1]
      for z, p in ((z1, p2), (z2, p1))
    ]
  )
  with jax.enable_x64(True):
    exact, near, first = jax.jit(
      lambda *inputs: [
        mec_loss(*inputs, lambda_inverse=9.0, order=order)
        for order in (None, 40, 1)
      ]
    )(*inputs)
  np.testing.assert_allclose(exact, expected, rtol=1e-11)
  np.testing.assert_allclose(near, expected, rtol=1e-9)
  np.testing.assert_allclose(first, simsiam(z1, z2, p1, p2), rtol=1e-12)


def test_paper_form_is_the_matrix_cross_entropy():
  """With the exact logarithm, of a symmetric cross-covariance."""

  def cross_entropy_of(p, q):
    values, vectors = np.linalg.eigh(q + np.eye(4))
    log = vectors * np.log(values) @ vectors.T
    return -np.trace((p + np.eye(4)) @ log) + np.sum(values)

  p1, p2, z1, z2 = inputs = CASES["mec"].draw(TALL)
  expected = 0.0
  for p, z in ((p2, z1), (p1, z2)):
    p, z = (unit(x) - unit(x).mean(0) for x in (p, z))
    cross = (p.T @ z + z.T @ p) / 12
    expected += cross_entropy_of(np.eye(4) / 4, cross) / 2
    expected += cross_entropy_of(p.T @ p / 6, z.T @ z / 6) / 2
  paper = functools.partial(
    matrix_ssl_loss, form="paper", symmetrise=True, order=30
  )
  with jax.enable_x64(True):
    got, _ = jax.jit(paper)(*inputs)
  np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_paper_form_keeps_little_of_the_cosine():
  """To first order its uniformity falls 1 / dim as fast with the agreement."""

  @jax.jit
  def slopes(z, target):
    return [
      jax.grad(
        lambda z, form=form: matrix_ssl_loss(
          target, target, z, z, gamma=0.0, form=form
        )[0]
      )(z)
      for form in ("program", "paper")
    ]

  z, target = (1e-3 * x + 1.0 for x in CASES["mec"].draw((4, 32))[:2])
  with jax.enable_x64(True):
    # Nearly collapsed, so that of C only the first order counts.
    program, paper = map(np.asarray, slopes(z, target))
  np.testing.assert_allclose(
    paper, program / 32, atol=1e-4 * np.abs(program).max()
  )


# --- Refusals ----------------------------------------------------------------
TWO, ONE, OTHER = jnp.ones((2, 3)), jnp.ones((1, 3)), jnp.ones((2, 4))


@pytest.mark.parametrize(
  "loss, inputs, settings, message",
  [
    (barlow_twins_loss, (TWO, OTHER), {}, r"z2 .*\(2, 3\), got \(2, 4\)"),
    (barlow_twins_loss, (ONE, ONE), {}, r"z1 .*at least 2 rows.*\(1, 3\)"),
    (
      barlow_twins_loss,
      (TWO, TWO),
      {"off_diagonal_weight": -1.0},
      "off_diagonal_weight must not be negative, got -1.0",
    ),
    (spectral_contrastive_loss, (ONE, ONE), {}, "z1 .*at least 2 rows"),
    (
      spectral_contrastive_loss,
      (TWO, TWO),
      {"squared_radius": 0.0},
      "squared_radius must be positive, got 0.0",
    ),
    (simclr_loss, (ONE, ONE), {}, "z1 .*at least 2 rows"),
    (simclr_loss, (TWO, TWO), {"temperature": 0.0}, "temperature must be pos"),
    (simclr_loss, (TWO, TWO.astype(int)), {}, "z2 must be floating point"),
    (vicreg_loss, (ONE, ONE), {}, "z1 .*at least 2 rows"),
    (vicreg_loss, (TWO, TWO), {"covariance": -1.0}, "covariance must not be"),
    (simsiam_loss, (TWO, TWO, TWO, OTHER), {}, "must have the shape"),
    (byol_loss, (TWO, TWO, TWO, OTHER), {}, "z2 must have the shape of p1"),
    (moco_v2_loss, (TWO, ONE, TWO), {}, "keys must have the shape of queries"),
    (moco_v2_loss, (TWO, TWO, OTHER), {}, r"queue .*, 3, got shape \(2, 4\)"),
    (
      moco_v2_loss,
      (TWO, TWO, TWO),
      {"temperature": -0.2},
      "temperature must be positive, got -0.2",
    ),
    (moco_v3_loss, (ONE,) * 4, {}, "q1 .*at least 2 rows"),
    (moco_v3_loss, (TWO, TWO, TWO, OTHER), {}, "k2 must have the shape of q1"),
    (moco_v3_loss, (TWO,) * 4, {"temperature": 0}, "temperature must be pos"),
    (mec_loss, (TWO,) * 4, {"lambda_inverse": 0.0}, "lambda_inverse must be"),
    (mec_loss, (TWO,) * 4, {"lambda_inverse": 9.0, "order": 0}, "order must"),
    (
      mec_loss,
      (TWO, TWO, OTHER, TWO),
      {"lambda_inverse": 9.0},
      "z1 must have the shape of p1",
    ),
    (matrix_ssl_loss, (ONE,) * 4, {}, "p1 .*at least 2 rows"),
    (matrix_ssl_loss, (TWO, OTHER, TWO, TWO), {}, "p2 must have the shape"),
    (matrix_ssl_loss, (TWO,) * 4, {"order": 0}, "order must be .*got 0"),
    (matrix_ssl_loss, (TWO,) * 4, {"ridge": 0.0}, "ridge must be positive"),
    (matrix_ssl_loss, (TWO,) * 4, {"gamma": -1.0}, "gamma must not be neg"),
    (
      matrix_ssl_loss,
      (TWO,) * 4,
      {"form": "code"},
      "form must be one of program, paper, got 'code'",
    ),
  ],
)
def test_refuses(loss, inputs, settings, message):
  with pytest.raises(ValueError, match=message):
    loss(*inputs, **settings)
