"""Teachers, queues, groups and refusals of the two-view methods."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from mmae_jax import objectives
from mmae_jax.models import build_encoder
from mmae_jax.types import RunInfo, TrainState, UsageError

KEY = jax.random.key(2)


def make(name, *, batch=16, microbatches=1, encoder=None, **hyperparameters):
  """(objective, views) of a shrunk config; nothing is compiled."""
  config = tiny.use_vit(tiny.shrink(tiny.load_config(name)))
  config.encoder.update(encoder or {})
  config.batch_size = batch
  config.unlock()
  if "queue_size" in config.objective:
    config.objective.queue_size = 2 * batch
  config.objective.update(hyperparameters)
  info = RunInfo(20, 5, 5 * batch, batch, microbatches)
  encoder = build_encoder(config.encoder, config.views["global"].size)
  objective = objectives.select(config.objective, encoder, info)
  return objective, tiny.photometry(KEY, tiny.batch(config))


def start(name, **changes):
  """(objective, views, TrainState) before the first step."""
  objective, views = make(name, **changes)
  init = objective.init(jax.random.key(1), views)
  if jax.config.jax_enable_x64:
    init = jax.tree.map(
      lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x,
      init,
    )
  params, model_state, carry = init
  state = TrainState(jnp.zeros((), int), params, model_state, (), carry, KEY)
  return objective, views, state


def assert_close(got, expected):
  jax.tree.map(
    lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-6),
    got,
    expected,
  )


@pytest.mark.parametrize(
  "name", ["byol", "matrix_ssl", "mec", "moco_v2", "moco_v3"]
)
def test_the_teacher_follows_in_the_order_of_its_recipe(name):
  objective, views, state = start(name, momentum=0.75)
  old = state.carry["teacher"]["params"]
  assert set(old) == {"encoder", "projector"}
  # BYOL's target starts from weights of its own.
  copied = jax.tree.map(np.array_equal, old, {k: state.params[k] for k in old})
  assert jax.tree.all(copied) == (name != "byol")

  before = jax.tree.map(lambda x: x + 0.5, state.params)
  after = jax.tree.map(lambda x: x + 0.5, before)
  _, output = objective.loss(KEY, before, state, views)
  params, carry = objective.after_update(after, output.carry, state.step)
  assert params is after
  in_the_pass, kept = (c["teacher"]["params"] for c in (output.carry, carry))

  def towards(student):
    return jax.tree.map(
      lambda t, s: 0.75 * t + 0.25 * s, old, {k: student[k] for k in old}
    )

  if name.startswith("moco"):  # first, towards what is not updated yet
    assert_close(in_the_pass, towards(before))
    assert kept is in_the_pass
  else:
    assert in_the_pass is old
    assert_close(kept, towards(after))


def test_the_teacher_has_running_statistics_of_its_own():
  objective, views, state = start("byol")
  _, output = objective.loss(KEY, state.params, state, views)
  own = output.carry["teacher"]["model_state"]["batch_stats"]["projector"]
  student = output.model_state["batch_stats"]["projector"]
  own, student = (jax.tree.leaves(x)[0] for x in (own, student))
  assert np.abs(own).max() > 0  # they moved, by other weights
  assert not np.allclose(own, student)


def test_running_statistics_move_once_a_view():
  """Twice, by the unbiased variance of each view on its own."""
  objective, views, state = start("simsiam")
  _, output = objective.loss(KEY, state.params, state, views)
  moved = output.model_state["batch_stats"]["projector"]["norm_0"]["var"]
  one = []
  for i in range(2):  # both views the same: the statistics of that one
    same = views | {"global": jnp.repeat(views["global"][:, i : i + 1], 2, 1)}
    _, output = objective.loss(KEY, state.params, state, same)
    var = output.model_state["batch_stats"]["projector"]["norm_0"]["var"]
    one.append((var - 0.81) / 0.19)
  assert_close(moved, 0.81 + 0.09 * one[0] + 0.1 * one[1])
  assert not np.allclose(one[0], one[1], rtol=1e-3)


def test_no_gradient_reaches_teacher_or_queue():
  objective, views, state = start("moco_v2")

  def loss(carry):
    return objective.loss(KEY, state.params, state.replace(carry=carry), views)[
      0
    ]

  carry = {k: v for k, v in state.carry.items() if k != "oldest"}
  gradient = jax.grad(lambda c: loss({**state.carry, **c}))(carry)
  assert all(not np.any(g) for g in jax.tree.leaves(gradient))


def test_the_queue_keeps_the_newest_keys():
  objective, views, state = start("moco_v2")
  first = state.carry["queue"]
  np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-5)
  seen = [first]
  for _ in range(3):
    _, output = objective.loss(KEY, state.params, state, views)
    state = state.replace(carry=output.carry)
    seen.append(output.carry["queue"])
  # Two batches fill it: the third takes the place of the first.
  np.testing.assert_array_equal(seen[1][16:], first[16:])
  assert not np.any(np.all(seen[1][:16] == first[:16], axis=1))
  np.testing.assert_array_equal(seen[2][:16], seen[1][:16])
  np.testing.assert_array_equal(seen[3][16:], seen[2][16:])
  assert int(state.carry["oldest"]) == 16
  np.testing.assert_allclose(np.linalg.norm(seen[3], axis=1), 1, rtol=1e-5)


def test_keys_are_shuffled_into_groups_by_image():
  """Groups follow the image, not its row; queries have neighbours."""
  tiny_resnet = {
    "name": "resnet",
    "depth": 10,
    "width_multiplier": 0.0625,
    "stem": "small",
    "group_size": 8,
  }
  with jax.enable_x64(True):
    objective, views, state = start("moco_v2", encoder=tiny_resnet)

    @jax.jit
    def keys(key, views):
      _, output = objective.loss(key, state.params, state, views)
      return output.carry["queue"][:16]

    plain = keys(KEY, views)
    order = np.random.default_rng(0).permutation(16)
    permuted = keys(KEY, {k: v[order] for k, v in views.items()})
    np.testing.assert_allclose(permuted, plain[order], atol=1e-9)
    assert not np.allclose(keys(jax.random.key(3), views), plain, atol=1e-6)


@pytest.mark.parametrize("name", ["simclr", "byol", "simsiam"])
def test_branches_depend_on_their_image_alone(name):
  objective, views, state = start(name)
  whole = objective.branches(KEY, state.params, state, views)
  names = {
    "simclr": ["view_1", "view_2"],
    "byol": ["student", "teacher"],
    "simsiam": ["prediction", "projection"],
  }[name]
  assert list(whole) == [*names, "representation"]
  part = objective.branches(
    KEY, state.params, state, {k: v[:5] for k, v in views.items()}
  )
  assert_close(part, {k: v[:5] for k, v in whole.items()})
  assert len({whole[n].shape for n in names}) == 1


def test_a_frozen_patch_embedding_stays_whatever_the_decay():
  objective, _, state = start("moco_v3", freeze_patch_embedding=True)
  optimizer = objective.wrap_optimizer(optax.adamw(0.1, weight_decay=0.1))
  gradient = jax.tree.map(jnp.ones_like, state.params)
  updates, _ = optimizer.update(
    gradient, optimizer.init(state.params), state.params
  )
  patch = updates["encoder"].pop("patch_embed")
  assert not any(np.any(x) for x in jax.tree.leaves(patch))
  assert all(np.all(x != 0) for x in jax.tree.leaves(updates))


@pytest.mark.parametrize(
  ("name", "changes", "said"),
  [
    ("simclr", {"temperature": 0.0}, "--config.objective.temperature=0.0"),
    ("moco_v3", {"temperature": -1.0}, "--config.objective.temperature=-1.0"),
    ("moco_v2", {"temperature": 0.0}, "--config.objective.temperature=0.0"),
    ("moco_v2", {"queue_size": 40}, "--config.objective.queue_size=40"),
    ("byol", {"momentum": 1.5}, "--config.objective.momentum=1.5"),
    ("moco_v2", {"momentum": -0.1}, "--config.objective.momentum=-0.1"),
    ("matrix_ssl", {"order": 0}, "--config.objective.order=0"),
    ("mec", {"order": 0}, "--config.objective.order=0"),
    ("mec", {"epsilon_squared": 0.0}, "--config.objective.epsilon_squared=0.0"),
    ("matrix_ssl", {"form": "both"}, "--config.objective.form=both"),
    ("matrix_ssl", {"ridge": 0.0}, "--config.objective.ridge=0.0"),
    (
      "spectral_contrastive",
      {"squared_radius": -1.0},
      "--config.objective.squared_radius=-1.0",
    ),
    ("barlow_twins", {"projector": {"width": 8}}, "has no key 'width'"),
    ("vicreg", {"projector": {"widths": ()}}, "--config.objective.projector="),
    ("simsiam", {"predictor": {"widths": (8, 4)}}, "(16, 4)"),
    ("simclr", {"weight": -1.0}, "--config.objective.weight=-1.0"),
    ("barlow_twins", {"weight": 0.0}, "--config.objective.weight=0.0"),
    ("mec", {"warmup_share": 2.0}, "--config.objective.warmup_share=2.0"),
    ("simclr", {"batch": 1}, "--config.batch_size=1"),
    ("simclr", {"microbatches": 2}, "--config.microbatches=2"),
    (
      "simclr",
      {"projector": {"widths": (8, 8), "group_size": 5}},
      "--config.objective.projector.group_size=5",
    ),
  ],
)
def test_mistakes_are_told_before_anything_compiles(name, changes, said):
  with pytest.raises(UsageError) as e:
    make(name, **changes)
  assert said in str(e.value), str(e.value)


def test_micro_batches_are_exact_without_batch_norm():
  """MoCo v2's head and a ViT have none."""
  with jax.enable_x64(True):
    results = []
    for microbatches in (1, 4):
      objective, views, state = start("moco_v2", microbatches=microbatches)
      loss = lambda p, o=objective, s=state, v=views: o.loss(KEY, p, s, v)[0]
      results.append(jax.jit(jax.grad(loss))(state.params))
    assert tiny.gradient_error(*results) < 1e-10
