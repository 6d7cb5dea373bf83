"""Schedules against recorded numbers, and who has which rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmae_jax import checks, config as config_lib
from mmae_jax.objectives import parts
from mmae_jax.train import clipping, optimizer
from mmae_jax.types import Objective, RunInfo, UsageError

OBJECTIVE = Objective(init=None, loss=None, branches=None)
PRECISIONS = [("float64", 1e-10), ("float32", 2e-6)]


def test_schedule_golden():
  # Per epoch fraction e = step / steps_per_epoch; section 1.7 of the spec.
  fine = optimizer.warmup_cosine(
    peak=6e-4, end=0.0, warmup_steps=40 * 1251, total_steps=200 * 1251
  )
  for step, expected in (
    (0, 0.0),
    (1, 1.199041e-8),
    (20 * 1251, 3e-4),
    (40 * 1251, 6e-4),
    (120 * 1251, 3e-4),
    (199 * 1251, 5.782786e-8),
    (200 * 1251, 0.0),
    (300 * 1251, 0.0),
  ):
    value = jax.jit(fine)(jnp.asarray(step))
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-16)
  coarse = optimizer.warmup_cosine(
    peak=6e-4, end=0.0, warmup_steps=80, total_steps=400
  )
  np.testing.assert_allclose(coarse(79), 5.925e-4, rtol=1e-6)


def test_schedule_without_warmup_and_with_a_floor():
  schedule = optimizer.warmup_cosine(
    peak=1.0, end=0.2, warmup_steps=0, total_steps=10
  )
  np.testing.assert_allclose(
    [schedule(0), schedule(5), schedule(10), schedule(11)],
    [1.0, 0.6, 0.2, 0.2],
    rtol=1e-6,
  )


def matrix_ssl_schedule():
  config = config_lib.base().optimizer
  config.update(base_learning_rate=0.5, warmup_epochs=10.0, warmup="linspace")
  run = RunInfo(125_100, 1251, 1_281_167, 1024)
  return optimizer.learning_rate(config, run, epochs=100)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_linspace_golden(dtype, tolerance):
  # specs/matrix_ssl.md section 2.8, from NumPy in float64. The last one is
  # given there with three digits.
  with jax.enable_x64(dtype == "float64"):
    rates = jax.jit(matrix_ssl_schedule())(
      jnp.asarray([0, 1, 100, 12509, 12510, 12511, 62550, 125_099])
    )
    assert rates.dtype == dtype
  expected = [
    *(0.0, 1.598848829e-4, 0.01598848829, 2.0, 2.0),
    *(1.9999999996107127, 1.1736481776669305),
  ]
  np.testing.assert_allclose(rates[:-1], expected, rtol=max(tolerance, 1e-9))
  np.testing.assert_allclose(rates[-1], 3.89e-10, rtol=2e-3)
  last = 2 * np.sin(np.pi / 2 / 112_590) ** 2
  np.testing.assert_allclose(rates[-1], last, rtol=tolerance)


def test_linspace_is_numpys():
  for steps in (1, 2, 7):
    schedule = optimizer.warmup_cosine(
      peak=3.0, end=0.0, warmup_steps=steps, total_steps=20, endpoint=True
    )
    np.testing.assert_allclose(
      schedule(jnp.arange(steps)), np.linspace(0, 3.0, steps), rtol=1e-6
    )
    assert schedule(steps) == 3.0


def test_a_rate_per_epoch_is_constant_inside_an_epoch():
  config = config_lib.base().optimizer
  config.update(
    base_learning_rate=0.05, warmup_epochs=0.0, schedule_per="epoch"
  )
  schedule = optimizer.learning_rate(
    config, RunInfo(40, 4, 2048, 512), epochs=10
  )
  epochs = np.repeat(np.arange(10), 4)
  expected = 0.05 * 512 / 256 * 0.5 * (1 + np.cos(np.pi * epochs / 10))
  np.testing.assert_allclose(schedule(jnp.arange(40)), expected, rtol=1e-6)
  # The warm-up is per step even so: 0, .01, .02, ... up to the peak of .1.
  config.warmup_epochs = 2.5
  schedule = optimizer.learning_rate(
    config, RunInfo(40, 4, 2048, 512), epochs=10
  )
  rates = np.asarray(schedule(jnp.arange(16)))
  np.testing.assert_allclose(rates[:10], 0.01 * np.arange(10), rtol=1e-6)
  np.testing.assert_allclose(rates[10:12], 0.1)
  assert np.all(rates[12:] == rates[12]) and rates[12] < 0.1


def toy(**changes):
  """A config whose peak is .5, with half a cosine over 4 steps, no warm-up."""
  config = config_lib.base()
  config.name = "toy"
  config.batch_size = 128
  config.optimizer.update(
    {
      "base_learning_rate": 1.0,
      "warmup_epochs": 0.0,
      "weight_decay": 0.1,
      **changes,
    }
  )
  return config


PEAK = 0.5
COSINE = 0.5 * PEAK * (1 + np.cos(np.pi * np.arange(4) / 4))
FACTORS = (1.0, -0.5, 2.0)


def start(dtype="float32"):
  """Parameters: two modules and a probe."""
  rng = np.random.default_rng(1)
  array = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  return {
    "network": {
      "encoder": {"kernel": array(3, 2), "bias": array(2)},
      "predictor": {"kernel": array(2, 2), "scale": array(2)},
    },
    "probe": {"kernel": array(2, 3), "bias": array(3)},
  }


def train(config, *, dtype="float32"):
  """Parameters after each step; the gradients are 2p times a factor."""
  params = start(dtype)
  schedule = optimizer.learning_rate(
    config.optimizer, RunInfo(4, 1, 128, config.batch_size), epochs=4
  )
  transform = optimizer.build(config, OBJECTIVE, schedule, total_steps=4)
  state = transform.init(params)
  update = jax.jit(transform.update)
  seen = []
  for factor in FACTORS:
    gradients = jax.tree.map(lambda p, f=factor: 2 * f * p, params)
    updates, state = update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    seen.append(params)
  assert {str(p.dtype) for p in jax.tree.leaves(params)} == {dtype}
  return seen


def assert_is_sgd(network, *, vector_rate, decay_vectors, tolerance):
  """Compares with torch.optim.SGD's rule; the predictor's rate is constant."""
  begin = start(network["encoder"]["bias"].dtype)["network"]
  for module, tensors in begin.items():
    for name, p in tensors.items():
      p, trace = np.asarray(p, np.float64), 0.0
      vector = name != "kernel"
      decay = 0.0 if vector and not decay_vectors else 0.1
      for i, factor in enumerate(FACTORS):
        rate = PEAK if module == "predictor" else COSINE[i]
        trace = 0.9 * trace + (2 * factor * p + decay * p)
        p = p - rate * (vector_rate if vector else 1.0) * trace
      np.testing.assert_allclose(
        network[module][name], p, rtol=tolerance, atol=tolerance
      )


@pytest.mark.parametrize(
  "dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)]
)
def test_groups_of_sgd(dtype, tolerance):
  config = toy(
    name="sgd", decay="all", vector_rate=0.024, constant=("predictor",)
  )
  with jax.enable_x64(dtype == "float64"):
    assert_is_sgd(
      train(config, dtype=dtype)[-1]["network"],
      vector_rate=0.024,
      decay_vectors=True,
      tolerance=tolerance,
    )


def test_vectors_do_not_decay_by_default():
  config = toy(name="sgd", constant=("predictor",))
  assert_is_sgd(
    train(config)[-1]["network"],
    vector_rate=1.0,
    decay_vectors=False,
    tolerance=1e-5,
  )


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_groups_change_nothing_else(name):
  # The gradient is clipped as a whole, not per group.
  common = {"name": name, "clip_norm": 1.0, "trust": 0.1}
  plain = train(toy(**common))
  groups = train(toy(**common, constant=("predictor",), vector_rate=0.0))
  for a, b in zip(plain, groups, strict=True):
    jax.tree.map(np.testing.assert_array_equal, a["probe"], b["probe"])
  # The first rate is the peak in both; after it the predictor's stays there.
  kernels = [
    np.stack([step["network"]["predictor"]["kernel"] for step in steps])
    for steps in (plain, groups)
  ]
  np.testing.assert_allclose(kernels[0][0], kernels[1][0], rtol=1e-6)
  assert np.abs(kernels[0] - kernels[1])[1].max() > 1e-4
  begin = start()["network"]
  for module, vector in (("encoder", "bias"), ("predictor", "scale")):
    before = begin[module][vector]
    assert np.all(groups[-1]["network"][module][vector] == before)
    assert np.all(plain[-1]["network"][module][vector] != before)


def test_what_has_no_such_name():
  schedule = lambda step: 0.1
  with pytest.raises(UsageError) as caught:
    optimizer.build(toy(name="adam"), OBJECTIVE, schedule, total_steps=4)
  assert str(caught.value) == (
    "--config.optimizer.name=adam: must be adamw or sgd or lars"
  )
  transform = optimizer.build(
    toy(name="sgd", constant=("predictr",)),
    OBJECTIVE,
    schedule,
    total_steps=4,
  )
  with pytest.raises(UsageError) as caught:
    jax.eval_shape(transform.init, start())
  assert str(caught.value) == (
    "--config.optimizer.constant=predictr: the network has no such module; it"
    " has encoder, predictor"
  )


@pytest.mark.parametrize(
  "key, value, said",
  [
    ("momentum", 1.0, "momentum=1.0: must be in [0, 1)"),
    ("trust", 0.0, "trust=0.0: must be positive"),
    ("vector_rate", -0.1, "vector_rate=-0.1: must be at least 0"),
    ("decay", "some", "decay=some: must be matrices or all"),
    ("adapt", "none", "adapt=none: must be matrices or all"),
    ("warmup", "cosine", "warmup=cosine: must be from_zero or linspace"),
    ("schedule_per", "day", "schedule_per=day: must be step or epoch"),
    ("clip_each", -1.0, "clip_each=-1.0: must be at least 0"),
    ("final_weight_decay", -1.0, "final_weight_decay=-1.0: must be at least 0"),
    ("larc_clip", True, "larc_clip=True: must be False without --config."),
  ],
)
def test_values_that_no_run_can_use(key, value, said):
  with pytest.raises(UsageError) as caught:
    checks.check(toy(**{key: value}))
  assert str(caught.value).startswith(f"--config.optimizer.{said}")


def test_the_decay_follows_half_a_cosine():
  """DINO's grows: p <- p - lr (Adam + decay(step) p), matrices alone."""
  config = toy(name="adamw", weight_decay=0.04, final_weight_decay=0.4)
  decay = optimizer.weight_decay(config.optimizer, 4)
  steps = np.arange(5)
  expected = 0.4 + (0.04 - 0.4) * (1 + np.cos(np.pi * steps / 4)) / 2
  np.testing.assert_allclose([decay(s) for s in steps], expected, rtol=1e-6)
  plain = train(toy(name="adamw", weight_decay=0.0))
  decayed = train(config)
  config.unlock()
  config.optimizer.final_weight_decay = 0.04  # from and to the same
  same = train(config)
  constant = train(toy(name="adamw", weight_decay=0.04))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), same, constant
  )
  for after, without in zip(decayed, plain, strict=True):
    after, without = (jax.tree.leaves(t["network"]) for t in (after, without))
    moved = [
      not np.array_equal(a, b) for a, b in zip(after, without, strict=True)
    ]
    matrices = [np.ndim(a) > 1 for a in after]
    assert moved == matrices


def test_each_tensor_is_clipped_by_itself():
  clip = clipping.clip_each(1.0)
  gradient = {"a": jnp.full((2, 2), 3.0), "b": jnp.full((3,), 0.1)}
  clipped, _ = clip.update(gradient, clip.init(gradient))
  np.testing.assert_allclose(np.linalg.norm(clipped["a"]), 1, rtol=1e-6)
  np.testing.assert_array_equal(clipped["b"], gradient["b"])


def test_a_warm_up_may_begin_above_zero():
  """SwAV's, as numpy.linspace has it."""
  schedule = optimizer.warmup_cosine(
    peak=4.8,
    end=0.0048,
    warmup_steps=5,
    total_steps=20,
    start=0.3,
    endpoint=True,
  )
  np.testing.assert_allclose(
    [schedule(s) for s in range(5)], np.linspace(0.3, 4.8, 5), rtol=1e-6
  )
  np.testing.assert_allclose(schedule(20), 0.0048, rtol=1e-5)


def test_the_whole_gradient_is_clipped_before_a_part_is_frozen():
  config = toy(name="sgd", clip_norm=1.0, momentum=0.0, weight_decay=0.0)
  schedule = lambda step: 1.0
  freezing = dataclasses.replace(OBJECTIVE, wrap_optimizer=parts.freeze("pred"))
  params = start("float32")
  gradient = jax.tree.map(jnp.ones_like, params)
  updates = []
  for objective in (OBJECTIVE, freezing):
    transform = optimizer.build(config, objective, schedule, total_steps=4)
    moved, _ = transform.update(gradient, transform.init(params), params)
    updates.append(moved["network"])
  jax.tree.map(
    np.testing.assert_array_equal, updates[0]["encoder"], updates[1]["encoder"]
  )
  assert not any(np.any(x) for x in jax.tree.leaves(updates[1]["predictor"]))
