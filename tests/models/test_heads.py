"""Projectors and predictors: the papers' layouts, values, initialisation."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax.models.heads import MLP, Prototypes

BIASES = dict(hidden_bias=True, last_bias=True)
# (what the programs of the papers have, its parameters by the spec's text).
RECIPES = {
  "simclr": (dict(widths=(5, 5, 3), last_norm="scale"), "wsb wsb ws"),
  "byol": (dict(widths=(5, 3), hidden_bias=True), "wbsb w"),
  "simsiam": (dict(widths=(5, 5, 3), last_norm="plain"), "wsb wsb w"),
  "simsiam_predictor": (dict(widths=(5, 3), last_bias=True), "wsb wb"),
  "moco_v2": (dict(widths=(5, 3), hidden_norm=False, **BIASES), "wb wb"),
  "moco_v3": (dict(widths=(5, 3), last_norm="plain"), "wsb w"),
  "barlow_twins": (dict(widths=(5, 5, 3)), "wsb wsb w"),
  "vicreg": (dict(widths=(5, 5, 3), hidden_bias=True), "wbsb wbsb w"),
  "spectral": (
    dict(widths=(5, 5, 3), last_norm="affine", **BIASES),
    "wbsb wbsb wbsb",
  ),
}


def letters(params, i):
  """Layer i as the table above has it: weight, bias; scale, bias."""
  linear, norm = params[f"linear_{i}"], params.get(f"norm_{i}", {})
  names = dict(kernel="w", bias="b", scale="s")
  order = ("kernel", "scale", "bias")
  return "".join(
    names[k] for part in (linear, norm) for k in order if k in part
  )


def init(head, rows=1, dim=4):
  """Shapes of a head's variables."""
  make = functools.partial(head.init, train=True)
  x = jax.ShapeDtypeStruct((rows, dim), jnp.float32)
  return jax.eval_shape(make, jax.random.key(0), x)


def train(head, variables, x, **kwargs):
  """The output in training, and the statistics after it."""
  return head.apply(variables, x, train=True, mutable=["batch_stats"], **kwargs)


def in_numpy(x, params, settings):
  """The same layers, by the formula."""
  count = len(settings["widths"])
  for i in range(count):
    is_last = i == count - 1
    linear, norm = params[f"linear_{i}"], params.get(f"norm_{i}", {})
    x = x @ linear["kernel"] + linear.get("bias", 0)
    hidden = settings.get("hidden_norm", True)
    if settings.get("last_norm") if is_last else hidden:
      x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
      x = x * norm.get("scale", 1) + norm.get("bias", 0)
    x = x if is_last else np.maximum(x, 0)
  return x


def test_recipes():
  """Parameters of each, and its training values in float64."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(6, 4))
  names = {name: MLP(**settings) for name, (settings, _) in RECIPES.items()}
  variables = {
    name: jax.tree.map(lambda p: rng.normal(size=p.shape), init(head))
    for name, head in names.items()
  }
  with jax.enable_x64(True):
    ys = jax.jit(
      lambda variables: {
        name: train(head, variables[name], jnp.asarray(x))[0]
        for name, head in names.items()
      }
    )(variables)
  for name, (settings, expected) in RECIPES.items():
    params, count = variables[name]["params"], len(settings["widths"])
    assert " ".join(letters(params, i) for i in range(count)) == expected
    own = in_numpy(x, params, settings)
    np.testing.assert_allclose(ys[name], own, atol=1e-12, err_msg=name)
    assert names[name].has_batch_norm == (name != "moco_v2")


def test_parameter_counts():
  """SimSiam's projector without the frozen bias, and its predictor."""
  for head, expected in (
    (MLP((2048, 2048, 2048), last_norm="plain"), 12_591_104),
    (MLP((512, 2048), last_bias=True), 2_100_224),
  ):
    params = init(head, dim=2048)["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == expected


def test_initialisation():
  head = MLP((200, 100), **BIASES)
  make = jax.jit(functools.partial(head.init, train=True))
  params = make(jax.random.key(0), jnp.zeros((1, 50)))["params"]
  for name, fan_in in (("linear_0", 50), ("linear_1", 200)):
    for x in params[name].values():
      bound = 1 / np.sqrt(fan_in)
      assert 0.95 * bound < np.abs(x).max() <= bound
      np.testing.assert_allclose(np.std(x), bound / np.sqrt(3), rtol=0.15)


def test_groups_and_precision():
  """Groups and statistics reach every layer; bfloat16 stays inside."""
  head = MLP((5, 3), last_norm="plain", group_size=4)
  low = MLP((5, 3), last_norm="plain", group_size=4, dtype="bfloat16")
  shapes = init(low)
  assert {p.dtype for p in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda p: jnp.float32(rng.normal(size=p.shape)), shapes
  )
  x = jnp.float32(rng.normal(size=(8, 4)))
  order = np.array([0, 6, 1, 3, 2, 4, 5, 7])
  groups = jnp.zeros(8, int).at[order].set(jnp.arange(8) // 4)

  @jax.jit
  def run(variables, x):
    return (
      train(head, variables, x, groups=groups),
      train(head, variables, x[order]),
      train(low, variables, x, groups=groups)[0],
    )

  (y, state), (moved, _), close = run(variables, x)
  np.testing.assert_allclose(y[order], moved, atol=1e-4)
  assert set(state["batch_stats"]) == {"norm_0", "norm_1"}
  assert close.dtype == jnp.float32
  assert 1e-5 < np.linalg.norm(close - y) / np.linalg.norm(y) < 0.1


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (dict(widths=()), r"widths must be positive, got \(\)"),
    (dict(widths=(4, 0)), r"widths must be positive, got \(4, 0\)"),
    (dict(widths=(4,), last_norm="l2"), "last_norm must be .*got 'l2'"),
    (dict(widths=(4,), hidden_norm="none"), "hidden_norm .*got 'none'"),
  ],
)
def test_wrong_attributes(wrong, message):
  with pytest.raises(ValueError, match=message):
    MLP(**wrong)


@pytest.mark.parametrize("form", ["direction", "vector"])
def test_prototypes(form):
  """Cosines of rows with stored directions, or with vectors as they are."""
  rng = np.random.default_rng(0)
  z = rng.standard_normal((5, 4)).astype(np.float32)
  head = Prototypes(3, form=form)
  variables = head.init(jax.random.key(0), z)
  kernel = variables["params"]["kernel"]
  assert kernel.shape == (3, 4)
  on_sphere = np.allclose(np.linalg.norm(kernel, axis=1), 1, rtol=1e-6)
  assert on_sphere == (form == "vector")
  longer = {"params": {"kernel": 2 * kernel}}
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  expected = unit(z) @ unit(kernel).T
  np.testing.assert_allclose(head.apply(variables, z), expected, atol=1e-6)
  factor = {"direction": 1, "vector": 2}[form]
  np.testing.assert_allclose(
    head.apply(longer, 3 * z), factor * expected, atol=1e-6
  )
  # A direction's gradient is at right angles to it, a vector's is not.
  gradient = jax.grad(lambda p: head.apply({"params": p}, z)[:, 0].sum())(
    variables["params"]
  )["kernel"]
  along = float(jnp.sum(gradient[0] * kernel[0]))
  assert (abs(along) < 1e-6) == (form == "direction")


def test_gelu_and_the_truncated_beginning():
  head = MLP(
    (64, 32),
    hidden_bias=True,
    last_bias=True,
    hidden_norm=False,
    activation="gelu",
    begin="truncated",
  )
  x = jax.random.normal(jax.random.key(1), (3, 16))
  variables = head.init(jax.random.key(0), x, train=False)
  first, last = (variables["params"][f"linear_{i}"] for i in range(2))
  assert not np.any(first["bias"]) and not np.any(last["bias"])
  np.testing.assert_allclose(np.std(first["kernel"]), 0.02, rtol=0.1)
  hidden = np.asarray(x @ first["kernel"], np.float64)
  erf = np.vectorize(math.erf)
  gelu = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
  np.testing.assert_allclose(
    head.apply(variables, x, train=False),
    gelu @ np.asarray(last["kernel"], np.float64),
    rtol=1e-4,
    atol=1e-6,
  )
