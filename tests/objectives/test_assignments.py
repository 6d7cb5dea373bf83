"""Losses on classes and on the ER bound, codes and clusters.

Golden values of entropy_reconstruction.md 3.7; formulas in float64 NumPy, in
value and, by differences, in gradient; what they must not depend on.
"""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
import numpy as np
import pytest

from mmae_jax import information
from mmae_jax.objectives import clustering, multi_crop
from mmae_jax.objectives.byol_er import byol_er_loss
from mmae_jax.objectives.deepcluster import balancing_weights, deepcluster_loss
from mmae_jax.objectives.deepcluster_er import deepcluster_er_loss
from mmae_jax.objectives.dino import dino_loss
from mmae_jax.objectives.dino_er import dino_er_loss
from mmae_jax.objectives.simclr_er import simclr_er_loss
from mmae_jax.objectives.swav import swav_loss
from mmae_jax.objectives.swav_er import swav_er_loss

PRECISIONS = [("float64", 1e-8), ("float32", 1e-5)]


# --- The formulas ------------------------------------------------------------
def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def entropy(p):
  return -np.sum(p * np.log(p))


def sinkhorn(scores, epsilon=0.05, iterations=3):
  """As the specification has it: Q is [classes, samples], no logarithms."""
  q = np.exp(scores / epsilon).T
  q /= q.sum()
  classes, batch = q.shape
  for _ in range(iterations):
    q /= q.sum(1, keepdims=True) * classes
    q /= q.sum(0, keepdims=True) * batch
  return (q * batch).T


def across(targets, log_q):
  """Loops over pairs of views."""
  pairs = [
    -np.mean(np.sum(targets[:, t] * log_q[:, s], axis=1))
    for t, s in itertools.product(
      range(targets.shape[1]), range(log_q.shape[1])
    )
    if t != s
  ]
  return np.mean(pairs)


def dino(students, teachers, centre):
  return across(
    softmax((teachers - centre) / 0.04), np.log(softmax(students / 0.1))
  )


def swav(scores, codes):
  return across(codes, np.log(softmax(scores / 0.1)))


def deepcluster(scores, assignments, weights=None):
  total, count = 0.0, 0
  for i, a in enumerate(assignments):
    if a < 0:
      continue
    count += 1
    weight = 1.0 if weights is None else weights[i]
    for view in scores[i]:
      total -= weight * np.log(softmax(view / 0.1)[a])
  return total / max(count * scores.shape[1], 1)


def class_entropy(logits, scope=None, views=2):
  scope = scope or len(logits)
  return np.mean(
    [
      entropy(softmax(logits[start : start + scope, view]).mean(0))
      for start in range(0, len(logits), scope)
      for view in range(views)
    ]
  )


def kernel_entropy(z, kappa, estimator, scope=None):
  """-log p_i by the kernel, less the constant of the density."""
  scope = scope or len(z)
  found = []
  for start in range(0, len(z), scope):
    own = z[start : start + scope]
    m = np.log(scope) - np.log(np.exp(kappa * own @ own.T).sum(1))
    found.append(np.mean(m) if estimator == "joe" else softmax(-m) @ m)
  return np.mean(found)


# --- Golden values -----------------------------------------------------------
@functools.cache
def golden():
  """zA, zB and their scores, section 3.7."""
  row, column = np.arange(1, 17)[:, None], np.arange(1, 129)[None]
  a = np.sin(0.7 * row * column) + (
    0.8 * np.cos(0.05 * row**2) * np.sin(0.3 * column)
  )
  b = a + 0.6 * np.cos(1.3 * row + 0.5 * column)
  prototypes = unit(np.cos(0.9 * np.arange(1, 11)[:, None] * column))
  za, zb = unit(a), unit(b)
  return za, zb, za @ prototypes.T, zb @ prototypes.T


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_golden_codes_and_losses(dtype, tolerance):
  close = functools.partial(np.testing.assert_allclose, rtol=10 * tolerance)
  with jax.enable_x64(dtype == "float64"):
    _, _, sa, sb = (jnp.asarray(x, dtype) for x in golden())
    qa, qb = clustering.sinkhorn(sa), clustering.sinkhorn(sb)
    assert qa.dtype == dtype
    close(
      qa[0, :5],
      [0.1159591087, 0.0883049549, 0.1345576266, 0.0846654051, 0.116670997],
    )
    close(qa.sum(1), 1.0)
    columns = qa.sum(0)
    np.testing.assert_allclose(
      columns[:5], [1.62166, 1.62369, 1.62289, 1.62437, 1.62200], atol=1e-5
    )
    np.testing.assert_allclose(columns[6], 1.39670, atol=1e-5)
    scores = jnp.stack([sa, sb], axis=1)
    codes = jnp.stack([qa, qb], axis=1)
    close(swav_loss(scores, codes), 2.15754878)
    # One direction: both views of the teacher are A, both of the student B.
    twice = lambda x: jnp.stack([x, x], axis=1)
    close(dino_loss(twice(sb), twice(sa), centre=sa.mean(0)), 2.09360475)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(
  ("kappa", "estimator", "entropy_term", "reconstruction", "bound"),
  [
    (10.0, "joe", -50.79393185, -52.44030239, 1.64637054),
    (10.0, "plugin", -50.79402772, -52.44030239, 1.64627466),
    (2.0, "joe", 57.39596240, 56.06106860, 1.33489380),
    (2.0, "plugin", 57.38644555, 56.06106860, 1.32537695),
  ],
)
def test_golden_er_on_the_sphere(
  dtype, tolerance, kappa, estimator, entropy_term, reconstruction, bound
):
  with jax.enable_x64(dtype == "float64"):
    za, zb = (jnp.asarray(x, dtype) for x in golden()[:2])
    settings = {"kappa": kappa, "estimator": estimator, "bessel_floor": 1e-7}
    # The entropy of the second argument alone: of A.
    one = simclr_er_loss(zb, za, symmetric=False, **settings)
    # No predictor: the student's projection predicts the teacher's.
    two = byol_er_loss(za, zb, za, zb, za, zb, symmetric=False, **settings)
    for loss, terms in (one, two):
      np.testing.assert_allclose(loss, -bound, rtol=10 * tolerance)
      for name, expected in (
        ("er_bound", bound),
        ("er_entropy", entropy_term),
        ("er_reconstruction", reconstruction),
      ):
        atol = 60 * tolerance if dtype == "float32" else 1e-7
        np.testing.assert_allclose(
          terms[name], expected, rtol=10 * tolerance, atol=atol, err_msg=name
        )


@pytest.mark.parametrize(
  ("estimator", "norm", "entry"),
  [
    ("joe", 0.12568232, 7.45528638e-4),
    ("plugin", 0.12568708, 7.46620582e-4),
  ],
)
def test_golden_gradient(estimator, norm, entry):
  """With respect to the rows before they are normalised."""
  with jax.enable_x64(True):
    row, column = np.arange(1, 17)[:, None], np.arange(1, 129)[None]
    a = np.sin(0.7 * row * column) + (
      0.8 * np.cos(0.05 * row**2) * np.sin(0.3 * column)
    )
    zb = golden()[1]

    def loss(a):
      target = jax.lax.stop_gradient(jnp.asarray(zb))
      return simclr_er_loss(target, a, symmetric=False, estimator=estimator)[0]

    gradient = jax.grad(loss)(jnp.asarray(a))
    np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=1e-7)
    np.testing.assert_allclose(gradient[0, 0], entry, rtol=1e-7)


def test_golden_class_distributions():
  """P and Q are softmaxes of 20 zA and 20 zB."""
  with jax.enable_x64(True):
    za, zb = (jnp.asarray(x) for x in golden()[:2])
    twice = lambda x: jnp.stack([x, x], axis=1)
    settings = {"student_temperature": 0.05, "teacher_temperature": 0.05}
    # The student is B, the teacher A: CE(P -> Q) and H of the mean of Q.
    loss, terms = dino_er_loss(twice(zb), twice(za), **settings)
    np.testing.assert_allclose(
      terms["er_reconstruction"], 4.32573042, rtol=1e-8
    )
    np.testing.assert_allclose(
      loss, terms["er_reconstruction"] - terms["er_entropy"], rtol=1e-12
    )
    _, terms = dino_er_loss(twice(zb), twice(za), symmetric=True, **settings)
    np.testing.assert_allclose(
      terms["er_reconstruction"], 4.22559804, rtol=1e-8
    )
    # The student is A: the entropy of the mean of P.
    _, terms = dino_er_loss(twice(za), twice(zb), **settings)
    np.testing.assert_allclose(terms["er_entropy"], 4.76839759, rtol=1e-8)
    np.testing.assert_allclose(terms["er_ceiling"], np.log(128))


# --- Formulas and gradients --------------------------------------------------
def draws(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


def of_sphere(estimator, scope, symmetric):
  def ours(z1, z2):
    return simclr_er_loss(
      z1,
      z2,
      kappa=3.0,
      estimator=estimator,
      entropy_scope=scope,
      symmetric=symmetric,
    )[0]

  def formula(z1, z2):
    z1, z2 = unit(z1), unit(z2)
    views = (z1, z2) if symmetric else (z2,)
    h = np.mean([kernel_entropy(z, 3.0, estimator, scope) for z in views])
    return -h - 3.0 * np.mean(np.sum(z1 * z2, 1))

  return ours, formula, [draws(6, 4), draws(6, 4, seed=1)]


def of_byol(symmetric):
  given = [draws(6, 4, seed=i) for i in (7, 8)]

  def ours(*arrays):
    return byol_er_loss(*arrays, *given, kappa=2.0, symmetric=symmetric)[0]

  def formula(*arrays):
    p1, p2, z1, z2, t1, t2 = (unit(x) for x in (*arrays, *given))
    pairs = [(z1, p1, t2), (z2, p2, t1)][: 1 + symmetric]
    return np.mean(
      [
        -kernel_entropy(z, 2.0, "plugin") - 2.0 * np.mean(np.sum(p * t, 1))
        for z, p, t in pairs
      ]
    )

  return ours, formula, [draws(6, 4, seed=i) for i in range(4)]


def of_dino():
  teachers, centre = draws(4, 2, 5, seed=3), draws(5, seed=4)
  return (
    lambda s: dino_loss(s, teachers, centre=centre),
    lambda s: dino(s, teachers, centre),
    [draws(4, 3, 5)],
  )


def of_dino_er(scope, views, symmetric):
  teachers, centre = draws(4, 2, 5, seed=3), draws(5, seed=4)

  def ours(s):
    return dino_er_loss(
      s,
      teachers,
      centre=centre,
      symmetric=symmetric,
      entropy_scope=scope,
      entropy_views=views,
    )[0]

  def formula(s):
    count = {"global": 2, "all": 3}[views]
    ce = dino(s, teachers, centre)
    if symmetric:
      log_p = (teachers - centre) / 0.04
      log_p = log_p - log_p.max(-1, keepdims=True)
      log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
      back = np.mean(
        [
          -np.mean(np.sum(softmax(s[:, j] / 0.1) * log_p[:, t], 1))
          for t, j in itertools.product(range(2), range(3))
          if t != j
        ]
      )
      ce = (ce + back) / 2
    return ce - class_entropy(s / 0.1, scope, count)

  return ours, formula, [0.2 * draws(4, 3, 5)]


def of_swav():
  codes = softmax(draws(4, 2, 5, seed=3))
  return (
    lambda s: swav_loss(s, codes),
    lambda s: swav(s, codes),
    [draws(4, 3, 5)],
  )


def of_swav_er():
  scores = 0.2 * draws(4, 3, 5)
  targets = softmax(scores[:, :2] / 0.05)  # stopped
  return (
    lambda s: swav_er_loss(s, entropy_scope=2)[0],
    lambda s: swav(s, targets) - class_entropy(s / 0.1, 2),
    [scores],
  )


def of_deepcluster(weighted):
  assignments = np.array([3, -1, 0, 3])
  weights = np.array([0.5, 9.0, 2.0, 0.5]) if weighted else None

  def ours(s):
    return deepcluster_loss(s, jnp.asarray(assignments), weights=weights)

  return ours, lambda s: deepcluster(s, assignments, weights), [draws(4, 3, 5)]


def of_deepcluster_er():
  assignments = np.array([3, -1, 0, 3])
  return (
    lambda s: deepcluster_er_loss(s, jnp.asarray(assignments))[0],
    lambda s: deepcluster(s, assignments) - class_entropy(s / 0.1),
    [0.2 * draws(4, 3, 5)],
  )


CASES = {
  "simclr_er": of_sphere("plugin", None, True),
  "simclr_er, joe, groups, one entropy": of_sphere("joe", 3, False),
  "byol_er": of_byol(True),
  "byol_er, one direction": of_byol(False),
  "dino": of_dino(),
  "dino_er": of_dino_er(None, "global", False),
  "dino_er, groups, all, symmetric": of_dino_er(2, "all", True),
  "swav": of_swav(),
  "swav_er": of_swav_er(),
  "deepcluster": of_deepcluster(False),
  "deepcluster, balanced": of_deepcluster(True),
  "deepcluster_er": of_deepcluster_er(),
}


@pytest.mark.parametrize("name", CASES)
def test_formula_and_gradient(name):
  ours, formula, inputs = CASES[name]
  with jax.enable_x64(True):
    arrays = [jnp.asarray(x) for x in inputs]
    which = tuple(range(len(arrays)))
    value, gradients = jax.jit(jax.value_and_grad(ours, which))(*arrays)
    np.testing.assert_allclose(value, formula(*inputs), rtol=1e-12)
    for i, gradient in enumerate(gradients):
      expected = np.zeros_like(inputs[i])
      for at in np.ndindex(inputs[i].shape):
        moved = [x.copy() for x in inputs]
        sides = []
        for step in (1e-6, -1e-6):
          moved[i][at] = inputs[i][at] + step
          sides.append(formula(*moved))
        expected[at] = (sides[0] - sides[1]) / 2e-6
      np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
  single = [jnp.asarray(x, jnp.float32) for x in inputs]
  np.testing.assert_allclose(ours(*single), value, rtol=1e-5)
  half = ours(*(x.astype(jnp.bfloat16) for x in single))
  assert half.dtype == jnp.float32 and np.isfinite(half)


# --- Identities and limits ---------------------------------------------------
def test_dino_against_uniform_and_collapsed_teachers():
  same = jnp.zeros((4, 2, 7))
  np.testing.assert_allclose(dino_loss(same, same), np.log(7), rtol=1e-6)
  # All on one class: the reconstruction is perfect, the entropy gone.
  one = jnp.zeros((4, 2, 7)).at[..., 3].set(100.0)
  loss, terms = dino_er_loss(one, one)
  assert abs(float(dino_loss(one, one))) < 1e-6
  assert abs(float(loss)) < 1e-6 and abs(float(terms["er_entropy"])) < 1e-6
  # Each image its own class: the largest bound there is.
  spread = 100.0 * jnp.stack([jnp.eye(7), jnp.eye(7)], axis=1)
  loss, terms = dino_er_loss(spread, spread)
  np.testing.assert_allclose(loss, -np.log(7), rtol=1e-6)


def test_byol_er_is_byol_less_an_entropy():
  """kappa/2 (mean squared distance of unit rows) is the reconstruction."""
  from mmae_jax.objectives.byol import byol_loss

  p1, p2, z1, z2, t1, t2 = (
    jnp.asarray(draws(8, 5, seed=i), jnp.float32) for i in range(6)
  )
  loss, _ = byol_er_loss(p1, p2, z1, z2, t1, t2, kappa=4.0)
  free = [
    information.er_loss(z, z, z, kappa=4.0) + 4.0 for z in (z1, z2)
  ]  # -entropy alone: a row predicts itself
  expected = 4.0 / 4 * byol_loss(p1, p2, t1, t2) - 4.0 + sum(free) / 2
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_sinkhorn_against_its_definition_and_in_the_limits():
  scores = np.clip(draws(12, 5) / 3, -1, 1)
  with jax.enable_x64(True):
    for epsilon, iterations in ((0.05, 3), (0.3, 1), (0.1, 50)):
      q = clustering.sinkhorn(
        jnp.asarray(scores), epsilon=epsilon, iterations=iterations
      )
      np.testing.assert_allclose(
        q, sinkhorn(scores, epsilon, iterations), rtol=1e-10, atol=1e-300
      )
    np.testing.assert_allclose(q.sum(0), 12 / 5, rtol=1e-2)  # of the last
  hard = clustering.sinkhorn(jnp.asarray(scores, jnp.float32), epsilon=1e-4)
  assert np.isfinite(hard).all()
  np.testing.assert_allclose(hard.sum(1), 1, rtol=1e-2)
  # Leading axes are all samples, and no gradient comes back.
  stacked = clustering.sinkhorn(jnp.asarray(scores.reshape(3, 4, 5)))
  flat = clustering.sinkhorn(jnp.asarray(scores))
  np.testing.assert_allclose(stacked.reshape(12, 5), flat, rtol=1e-5)
  gradient = jax.grad(lambda s: clustering.sinkhorn(s)[0, 0])(
    jnp.asarray(scores)
  )
  assert not np.any(gradient)


def blobs(count=300, clusters=4, dim=6):
  rng = np.random.default_rng(5)
  centres = unit(rng.standard_normal((clusters, dim)))
  labels = rng.integers(0, clusters, count)
  rows = unit(centres[labels] + 0.15 * rng.standard_normal((count, dim)))
  return rows, labels


def bank_of(rows, dtype=jnp.float32):
  shape = clustering.bank_rows(len(rows))
  bank = jnp.zeros((*shape, rows.shape[1]), dtype)
  return clustering.write_rows(
    bank, jnp.arange(len(rows)), jnp.asarray(rows, dtype)
  )


def test_kmeans_is_lloyds_algorithm(monkeypatch):
  monkeypatch.setattr(clustering, "BLOCK", 64)
  rows, _ = blobs()
  with jax.enable_x64(True):
    bank = bank_of(rows, jnp.float64)
    key = jax.random.key(0)
    _, first = clustering.spherical_kmeans(key, bank, clusters=5, iterations=0)
    # The first centroids are different rows.
    centroids = np.asarray(first)
    places = [int(np.argmin(np.abs(rows - c).sum(1))) for c in centroids]
    assert len(set(places)) == 5
    np.testing.assert_allclose(rows[places], centroids)
    for _ in range(4):
      nearest = np.argmax(rows @ centroids.T, axis=1)
      centroids = np.stack(
        [
          unit(rows[nearest == k].sum(0)) if np.any(nearest == k) else c
          for k, c in enumerate(centroids)
        ]
      )
    nearest = np.argmax(rows @ centroids.T, axis=1)
    assignments, found = clustering.spherical_kmeans(
      key, bank, clusters=5, iterations=4
    )
    np.testing.assert_allclose(found, centroids, atol=1e-12)
    flat = np.asarray(assignments).ravel()
    np.testing.assert_array_equal(flat[: len(rows)], nearest)
    assert np.all(flat[len(rows) :] == -1)  # the padding is nobody's
    np.testing.assert_array_equal(
      clustering.sizes(assignments, 5), np.bincount(nearest, minlength=5)
    )


def test_an_empty_cluster_keeps_its_centroid():
  rows = np.tile(unit(draws(2, 4)), (10, 1))  # two different rows, five wanted
  assignments, centroids = clustering.spherical_kmeans(
    jax.random.key(0), bank_of(rows), clusters=5, iterations=3
  )
  np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
  assert len(np.unique(np.asarray(assignments))) <= 3  # two, and the padding


def test_kmeans_and_bank_on_eight_devices():
  """Rows stay where they are: sums of centroids and one draw a row travel."""
  rows, _ = blobs()
  mesh = jax.make_mesh(
    (4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2
  )
  with jax.enable_x64(True):
    bank = bank_of(rows, jnp.float64)
    run = functools.partial(
      clustering.spherical_kmeans, clusters=4, iterations=5
    )
    one = jax.jit(run)(jax.random.key(3), bank)
    spread = jax.device_put(bank, NamedSharding(mesh, clustering.BANK))
    assert spread.addressable_shards[0].data.size == bank.size // 8
    compiled = jax.jit(run).lower(jax.random.key(3), spread).compile()
    text = compiled.as_text()
    assert not re.findall(r"all-to-all|collective-permute", text)
    shapes = re.findall(r"= \w+\[([\d,]+)\]\S* all-(?:gather|reduce)", text)
    sizes = [math.prod(map(int, shape.split(","))) for shape in shapes]
    assert sizes and max(sizes) <= clustering.BLOCK < bank.size
    eight = compiled(jax.random.key(3), spread)
    np.testing.assert_array_equal(one[0], eight[0])
    np.testing.assert_allclose(one[1], eight[1], rtol=1e-10)


def test_balanced_weights_have_the_expectation_of_the_sampler():
  """Uniform over clusters that are not empty, then over their images."""
  rng = np.random.default_rng(0)
  assignments = rng.choice(4, 200, p=[0.7, 0.2, 0.1, 0.0])
  losses = rng.random(200)
  counts = np.bincount(assignments, minlength=4)
  sampled = np.mean(
    [losses[assignments == k].mean() for k in range(4) if counts[k]]
  )
  weights = balancing_weights(jnp.asarray(counts), jnp.asarray(assignments))
  np.testing.assert_allclose(np.mean(weights * losses), sampled, rtol=1e-5)
  np.testing.assert_allclose(np.mean(weights), 1, rtol=1e-5)


@pytest.mark.parametrize(
  ("loss", "count"),
  [
    (lambda s, t: dino_loss(s, t), 3),
    (lambda s, t: dino_er_loss(s, t, symmetric=True)[0], 3),
    (lambda s, t: swav_loss(s, jax.nn.softmax(t)), 3),
  ],
)
def test_no_gradient_goes_to_targets(loss, count):
  students, targets = draws(4, count, 5), draws(4, 2, 5, seed=1)
  own, others = jax.grad(loss, (0, 1))(
    jnp.asarray(students), jnp.asarray(targets)
  )
  assert np.any(own) and not np.any(others)


def test_no_gradient_goes_to_byols_teacher():
  arrays = [jnp.asarray(draws(6, 4, seed=i)) for i in range(6)]
  gradients = jax.grad(lambda *a: byol_er_loss(*a)[0], range(6))(*arrays)
  assert all(np.any(g) for g in gradients[:4])
  assert not any(np.any(g) for g in gradients[4:])


def test_which_views_meet():
  """No target meets its own view; the others count the same."""
  targets = np.zeros((1, 2, 3))
  targets[0, 0, 0] = targets[0, 1, 1] = 1.0
  log_q = np.zeros((1, 3, 3))
  log_q[0, 0, 0] = log_q[0, 1, 1] = -100.0  # of a view with itself
  log_q[0, 1, 0], log_q[0, 2, 0] = -1.0, -2.0  # of target 0 with 1 and 2
  log_q[0, 0, 1], log_q[0, 2, 1] = -4.0, -8.0
  got = multi_crop.across_views(jnp.asarray(targets), jnp.asarray(log_q))
  np.testing.assert_allclose(got, (1 + 2 + 4 + 8) / 4)


# --- Refusals ----------------------------------------------------------------
@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: dino_loss(jnp.ones((4, 2, 5)), jnp.ones((4, 2, 6))), "classes"),
    (lambda: dino_loss(jnp.ones((4, 5)), jnp.ones((4, 2, 5))), "students"),
    (
      lambda: dino_loss(
        jnp.ones((4, 2, 5)), jnp.ones((4, 2, 5)), student_temperature=0.0
      ),
      "student_temperature must be positive",
    ),
    (lambda: swav_loss(jnp.ones((4, 1, 5)), jnp.ones((4, 1, 5))), "2 views"),
    (lambda: swav_er_loss(jnp.ones((4, 2, 5)), entropy_scope=3), "divide"),
    (
      lambda: swav_er_loss(jnp.ones((4, 2, 5)), entropy_views="local"),
      "entropy_views must be one of",
    ),
    (
      lambda: deepcluster_loss(jnp.ones((4, 2, 5)), jnp.zeros(3, int)),
      "assignments must be [4]",
    ),
    (
      lambda: simclr_er_loss(jnp.ones((4, 5)), jnp.ones((4, 5)), kappa=-1.0),
      "kappa",
    ),
    (
      lambda: simclr_er_loss(
        jnp.ones((4, 5)), jnp.ones((4, 5)), entropy_scope=3
      ),
      "scope",
    ),
    (lambda: clustering.sinkhorn(jnp.ones((4, 5)), epsilon=0.0), "epsilon"),
    (lambda: clustering.sinkhorn(jnp.ones((4, 5)), iterations=0), "iteration"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError) as e:
    call()
  assert message in str(e.value), str(e.value)
