"""Crops, prototypes, queues and banks: what DINO, SwAV, DeepCluster keep."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from mmae_jax import objectives
from mmae_jax.models import build_encoder
from mmae_jax.models.heads import MLP, Prototypes
from mmae_jax.objectives import (
  byol_er,
  clustering,
  deepcluster,
  deepcluster_er,
  dino,
  dino_er,
  multi_crop,
  parts,
  simclr_er,
  swav,
  swav_er,
)
from mmae_jax.objectives.networks import Networks
from mmae_jax.train import begin, checkpoint
from mmae_jax.types import RunInfo, TrainState, UsageError

KEY = jax.random.key(2)
BATCH, STEPS = 16, 5
RESNET = {
  "name": "resnet",
  "depth": 10,
  "width_multiplier": 0.0625,
  "stem": "small",
}


def make(name, *, batch=BATCH, microbatches=1, encoder=None, **changes):
  """(objective, views, encoder) of a shrunk config; nothing is compiled."""
  config = tiny.use_vit(tiny.shrink(tiny.load_config(name)))
  config.encoder.update(encoder or {})
  config.batch_size = batch
  config.unlock()
  if config.objective.get("queue_size"):
    config.objective.queue_size = 2 * batch
  for key, value in changes.items():
    config.objective[key] = value
  run = RunInfo(4 * STEPS, STEPS, STEPS * batch, batch, microbatches)
  built = build_encoder(config.encoder, config.views["global"].size)
  objective = objectives.select(config.objective, built, run)
  return objective, tiny.photometry(KEY, tiny.batch(config)), built


def start(name, **changes):
  """(objective, views, TrainState) before the first step."""
  objective, views, _ = make(name, **changes)
  params, model_state, carry = objective.init(jax.random.key(1), views)
  state = TrainState(jnp.zeros((), int), params, model_state, (), carry, KEY)
  return objective, views, state


def at(state, step):
  return state.replace(step=jnp.asarray(step))


def assert_close(got, expected, **kwargs):
  tolerance = {"rtol": 1e-5, "atol": 1e-6} | kwargs
  jax.tree.map(
    lambda g, e: np.testing.assert_allclose(g, e, **tolerance), got, expected
  )


# --- Crops -------------------------------------------------------------------
def networks_of(*, batch=BATCH, encoder=None, hidden_norm=False):
  """(networks, params, model_state, views) of SwAV."""
  _, views, built = make("swav", encoder=encoder)
  networks = Networks(
    built,
    RunInfo(20, 5, 5 * batch, batch),
    projector=MLP((8, 16), hidden_norm=hidden_norm),
    prototypes=Prototypes(8, form="vector"),
  )
  params, model_state, _ = networks.init(KEY, views)
  return networks, params, model_state, views


def embed(network, views, **kwargs):
  """`multi_crop.embed`, compiled."""
  networks, params, model_state = network
  compiled = jax.jit(
    lambda params, model_state, views: multi_crop.embed(
      networks, params, model_state, views, **kwargs
    )
  )
  return compiled(params, model_state, views)


def without_local(views):
  return {name: x for name, x in views.items() if name != "local"}


def test_crops_of_all_sizes_in_the_order_of_their_kinds():
  """Of a network without BatchNorm a crop's embedding is its own."""
  *network, views = networks_of()
  whole, _ = embed(network, views)
  assert whole.scores.shape == (BATCH, 4, 8)
  alone = without_local(views) | {"global": views["local"]}
  small, _ = embed(network, alone)
  assert_close(whole.scores[:, 2:], small.scores)
  large, _ = embed(network, without_local(views))
  assert_close(whole.scores[:, :2], large.scores)
  target, _ = embed(network, views, target=True)
  assert_close(target.scores, large.scores)


def test_batch_norm_takes_the_crops_of_one_size_together():
  *network, views = networks_of(encoder=RESNET, hidden_norm=True)
  _, moved = embed(network, views)
  first = lambda s: s["batch_stats"]["encoder"]["bn1"]["mean"]
  means = []
  for kind in ("global", "local"):
    only = without_local(views) | {"global": views[kind]}
    _, one = embed(network, only)
    means.append(first(one) / 0.1)
  # Twice, the larger crops first.
  assert_close(first(moved), 0.9 * 0.1 * means[0] + 0.1 * means[1])
  # The heads see all crops at once: the running mean, 0, moves once.
  h = embed(network, views)[0].representation
  kernel = network[1]["projector"]["linear_0"]["kernel"]
  assert_close(
    moved["batch_stats"]["projector"]["norm_0"]["mean"],
    0.1 * jnp.mean(h @ kernel, axis=(0, 1)),
  )


def test_a_group_has_the_crops_of_so_many_images():
  half = BATCH // 2
  *network, views = networks_of(encoder=RESNET | {"group_size": half})
  whole, _ = embed(network, views)
  for part in (slice(0, half), slice(half, BATCH)):
    own, _ = embed(network, {name: x[part] for name, x in views.items()})
    assert_close(own.scores, whole.scores[part], rtol=1e-4, atol=1e-5)


def test_micro_batches_are_exact_without_batch_norm():
  with jax.enable_x64(True):
    gradients = []
    for microbatches in (1, 4):
      objective, views, state = start(
        "dino_er",
        microbatches=microbatches,
        drop_path=0.5,
        encoder={"depth": 2},
      )
      state = jax.tree.map(
        lambda x: x.astype(float) if x.dtype == jnp.float32 else x, state
      )
      loss = lambda p, o=objective, s=state, v=views: o.loss(KEY, p, s, v)[0]
      gradients.append(jax.jit(jax.grad(loss))(state.params))
    assert tiny.gradient_error(*gradients) < 1e-10


# --- Drop path ---------------------------------------------------------------
def test_branches_are_left_out_by_image_and_more_often_further_up():
  seeds = jnp.arange(4000, dtype=jnp.uint32)
  scales = multi_crop.branch_scales((KEY, 0.4), seeds, "global", (2, 3))
  assert scales.shape == (4000, 2, 3, 2)
  for block, rate in enumerate((0.0, 0.2, 0.4)):
    own = scales[:, :, block]
    np.testing.assert_allclose(np.mean(own == 0), rate, atol=0.015)
    np.testing.assert_allclose(own[own > 0], 1 / (1 - rate), rtol=1e-6)
    np.testing.assert_allclose(own.mean(), 1, atol=0.03)
  order = np.random.default_rng(0).permutation(4000)
  shuffled = multi_crop.branch_scales(
    (KEY, 0.4), seeds[order], "global", (2, 3)
  )
  np.testing.assert_array_equal(shuffled, scales[order])
  other = multi_crop.branch_scales((KEY, 0.4), seeds, "local", (2, 3))
  assert not np.array_equal(other, scales)


def test_a_block_without_its_branches_is_the_identity():
  objective, views, encoder = make("dino", encoder={"depth": 2})
  params, _, _ = objective.init(KEY, views)
  images = views["global"][:, 0]
  represent = functools.partial(
    encoder.apply, {"params": params["encoder"]}, images, method="represent"
  )
  ones = jnp.ones((BATCH, 2, 2))
  assert_close(represent(train=True, branch_scales=ones), represent(train=True))
  last = represent(train=True, branch_scales=ones.at[:, 1].set(0))
  first = encoder.apply(
    {"params": params["encoder"]}, images, layer=0, method="features"
  )
  assert_close(last, first)


# --- DINO --------------------------------------------------------------------
def teacher_scores(objective, state, views):
  """Raw scores of the teacher, both global views."""
  found = {}
  real = multi_crop.embed

  def spy(*args, target=False, **kwargs):
    result = real(*args, target=target, **kwargs)
    if target:
      found["scores"] = result[0].scores
    return result

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(multi_crop, "embed", spy)
    loss, output = objective.loss(KEY, state.params, state, views)
  return found["scores"], loss, output


def test_the_centre_is_used_before_it_moves():
  objective, views, state = start("dino", centre_momentum=0.75)
  scores, loss, output = teacher_scores(objective, state, views)
  assert scores.shape == (BATCH, 2, 8)  # large crops alone
  centre = output.carry["centre"]
  assert_close(centre, 0.25 * scores.mean((0, 1)))
  state = state.replace(carry=output.carry)
  _, later, output = teacher_scores(objective, state, views)
  assert float(later) != float(loss)
  assert_close(
    output.carry["centre"], 0.75 * centre + 0.25 * scores.mean((0, 1))
  )
  without, _, state = start("dino", centring=False)
  assert "centre" not in state.carry
  assert_close(without.loss(KEY, state.params, state, views)[0], loss)


def test_the_teachers_temperature_is_one_an_epoch():
  settings = {
    "warmup_teacher_temperature": 0.04,
    "teacher_temperature": 0.07,
    "warmup_epochs": 3.0,
  }
  objective, views, state = start("dino", **settings)
  seen = [
    float(
      objective.loss(KEY, state.params, at(state, step), views)[1].metrics[
        "teacher_temperature"
      ]
    )
    for step in (0, 4, 5, 9, 10, 19)
  ]
  np.testing.assert_allclose(
    seen, [0.04, 0.04, 0.055, 0.055, 0.07, 0.07], rtol=1e-6
  )


def test_only_the_student_leaves_branches_out():
  objective, views, state = start("dino", drop_path=0.9, encoder={"depth": 2})
  plain, _, _ = make("dino", encoder={"depth": 2})
  dropped, loss, _ = teacher_scores(objective, state, views)
  kept, other, _ = teacher_scores(plain, state, views)
  np.testing.assert_array_equal(dropped, kept)
  assert float(loss) != float(other)


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_frozen_prototypes_keep_weights_and_moments(name):
  objective, _, state = start(name, freeze_epochs=0.4)  # two steps
  schedule = optax.linear_schedule(0.1, 0.5, 4)
  optimizer = objective.wrap_optimizer(optax.adamw(schedule, weight_decay=0.1))
  params, opt_state = state.params, optimizer.init(state.params)
  gradient = jax.tree.map(jnp.ones_like, params)
  for step in range(4):
    before = params
    updates, opt_state = jax.jit(optimizer.update)(gradient, opt_state, params)
    params = optax.apply_updates(params, updates)
    same = jax.tree.map(np.array_equal, before, params)
    assert jax.tree.all(same["prototypes"]) == (step < 2)
    assert not any(jax.tree.leaves(same["encoder"]))
    moments = [
      x
      for path, x in jax.tree_util.tree_leaves_with_path(opt_state)
      if "prototypes" in jax.tree_util.keystr(path)
    ]
    assert len(moments) == 2
    assert any(np.any(m) for m in moments) == (step >= 2)
  # Adam begins with the third step, at that step's rate.
  late = optax.adamw(lambda count: schedule(count + 2), weight_decay=0.1)
  first = state.params["prototypes"]
  own = late.init(first)
  for _ in range(2):
    ones = jax.tree.map(jnp.ones_like, first)
    updates, own = late.update(ones, own, first)
    first = optax.apply_updates(first, updates)
  assert_close(params["prototypes"], first)


# --- SwAV --------------------------------------------------------------------
def test_prototypes_return_to_the_sphere():
  objective, _, state = start("swav")
  length = lambda p: np.linalg.norm(p["prototypes"]["kernel"], axis=1)
  np.testing.assert_allclose(length(state.params), 1, rtol=1e-6)
  moved = jax.tree.map(lambda x: 3 * x + 0.1, state.params)
  after, _ = objective.after_update(moved, state.carry, 0)
  np.testing.assert_allclose(length(after), 1, rtol=1e-6)
  assert after["encoder"] is moved["encoder"]


def test_the_queue_fills_is_used_when_full_and_keeps_the_newest():
  """From the second epoch (step 5), two batches long: in use from step 7."""
  objective, views, state = start("swav", queue_epochs=1.0)
  without, _, _ = make("swav", queue_size=0)
  alone = without.loss(KEY, state.params, state.replace(carry={}), views)[0]
  assert state.carry["queue"].shape == (2, 2, BATCH, 16)
  losses, queues = [], []
  compiled = jax.jit(objective.loss)
  for step in range(10):
    changed = {**views, "global": views["global"] + 0.1 * step}
    loss, output = compiled(KEY, state.params, at(state, step), views)
    losses.append(float(loss))
    # What is pushed differs from step to step.
    _, output = compiled(KEY, state.params, at(state, step), changed)
    state = state.replace(carry=output.carry)
    queues.append(np.asarray(output.carry["queue"]))
  assert not np.any(queues[4])
  assert np.any(queues[5][:, 0]) and not np.any(queues[5][:, 1])
  lengths = np.linalg.norm(queues[6], axis=-1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-5)
  np.testing.assert_array_equal(queues[7][:, 1], queues[6][:, 1])
  assert not np.allclose(queues[7][:, 0], queues[6][:, 0])
  np.testing.assert_allclose(losses[:7], float(alone), rtol=1e-6)
  assert all(abs(loss - float(alone)) > 1e-6 for loss in losses[7:])


# --- DeepCluster -------------------------------------------------------------
def test_rows_of_the_bank_follow_the_image():
  objective, views, state = start("deepcluster")
  order = np.random.default_rng(0).permutation(BATCH)
  shuffled = {name: x[order] for name, x in views.items()}
  banks = [
    objective.loss(KEY, state.params, state, v)[1].carry["bank"]
    for v in (views, shuffled)
  ]
  assert_close(*banks)
  rows = np.asarray(banks[0]["0"]).reshape(-1, 16)
  np.testing.assert_allclose(np.linalg.norm(rows[:BATCH], axis=1), 1, rtol=1e-5)
  assert not np.any(rows[BATCH:])
  assert rows.shape[0] % 4096 == 0


@pytest.mark.parametrize("name", ["deepcluster", "deepcluster_er"])
def test_nothing_is_learned_before_there_are_clusters(name):
  config = tiny.step_config(name)
  run = tiny.Run(config)
  before = jax.device_get(run.state.params["network"])
  first = run.train(5)
  jax.tree.map(
    np.testing.assert_array_equal, before, run.state.params["network"]
  )
  assert {m["clustered"] for m in first} == {0.0}
  assert {m["loss"] for m in first} == {m["grad_norm"] for m in first} == {0.0}
  assert {m["learning_rate"] for m in first} == {0.0}
  second = run.train(2, first=5)
  assert second[0]["clustered"] == 1.0 and second[0]["grad_norm"] > 0
  # The warm-up begins here, at zero.
  assert second[0]["learning_rate"] == 0 < second[1]["learning_rate"]
  kernel = lambda network: network["projector"]["linear_0"]["kernel"]
  assert np.any(kernel(before) != kernel(run.state.params["network"]))
  carry = jax.device_get(run.state.carry)
  for head, count in (("0", 8), ("1", 6)):
    assigned = carry["assignments"][head].ravel()
    assert np.all(assigned[:320] >= 0) and np.all(assigned[320:] == -1)
    np.testing.assert_array_equal(
      carry["counts"][head], np.bincount(assigned[:320], minlength=count)
    )


def test_a_stop_before_or_after_a_refresh_changes_no_bit(tmp_path):
  """Clusters are made after step 5; SwAV's queue is used from step 3 on."""
  for name, steps in (("deepcluster", (4, 5, 6)), ("swav", (2, 3, 4))):
    config = tiny.step_config(name)
    run = tiny.Run(config)
    folder = tmp_path / name
    checkpoints = checkpoint.Checkpoints(folder, keep=5)
    losses = []
    for step in range(8):
      losses += run.train(1, first=step)
      if step + 1 in steps:
        checkpoints.save(run.state, config, step + 1)
        checkpoints.wait()
    end = jax.device_get(run.state.replace(key=None))
    for step in steps:
      run.state = checkpoints.restore(step, run.state, run.shardings)
      assert run.train(8 - step, first=step) == losses[step:]
      jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(run.state.replace(key=None)),
        end,
      )
    checkpoints.close()


def test_bank_and_queue_are_split_over_the_devices():
  """Each device holds an eighth of them."""
  for name, kept in (("deepcluster", "bank"), ("swav", "queue")):
    run = tiny.Run(tiny.step_config(name), devices=8, compiled=False)
    for leaf in jax.tree.leaves(run.state.carry[kept]):
      sizes = {shard.data.size for shard in leaf.addressable_shards}
      assert sizes == {leaf.size // 8}


def test_balanced_weights_are_those_of_the_clusters_of_all_images():
  """Of two clusters of 24 and 56 of 80 images; the third is empty."""
  _, views, state = start("deepcluster", clusters=(3,))
  assigned = jnp.where(jnp.arange(BATCH) < 6, 0, 1)
  rows = clustering.write_rows(
    state.carry["assignments"]["0"], views["index"], assigned
  )
  carry = state.carry | {
    "assignments": {"0": rows},
    "counts": {"0": jnp.array([24, 56, 0])},
  }
  state = at(state.replace(carry=carry), STEPS)
  seen = []

  def spy(scores, assignments, *, weights=None, **kwargs):
    seen.append(weights)
    return real(scores, assignments, weights=weights, **kwargs)

  real = deepcluster.deepcluster_loss
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(deepcluster, "deepcluster_loss", spy)
    losses = []
    for balanced in (False, True):
      objective, _, _ = make("deepcluster", clusters=(3,), balanced=balanced)
      losses.append(objective.loss(KEY, state.params, state, views)[0])
      if not balanced:
        assert seen[-1] is None
  assert_close(seen[-1], jnp.where(assigned == 0, 80 / (2 * 24), 80 / (2 * 56)))
  assert float(losses[0]) != float(losses[1])


# --- Categories --------------------------------------------------------------
@pytest.mark.parametrize(
  "name", ["dino", "dino_er", "swav", "swav_er", "deepcluster"]
)
def test_categories_depend_on_their_image_alone(name):
  objective, views, state = start(name)
  whole = objective.categories(state.params, state, views)
  part = objective.categories(
    state.params, state, {k: v[:5] for k, v in views.items()}
  )
  assert whole[0].shape == whole[1].shape == (BATCH, 8)
  assert_close(part, tuple(x[:5] for x in whole))


# --- Refusals ----------------------------------------------------------------
@pytest.mark.parametrize(
  ("name", "changes", "said"),
  [
    ("dino", {"prototypes": 1}, "--config.objective.prototypes=1"),
    ("dino", {"student_temperature": 0.0}, "student_temperature=0.0"),
    ("dino", {"teacher_temperature": 0.0}, "teacher_temperature=0.0"),
    ("dino", {"freeze_epochs": 4.0}, "freeze_epochs=4.0"),
    ("dino", {"centre_momentum": 2.0}, "centre_momentum=2.0"),
    ("dino", {"drop_path": 1.0}, "drop_path=1.0"),
    ("dino", {"drop_path": 0.1, "encoder": RESNET}, "drop_path=0.1"),
    ("dino", {"projector": {"begin": "zero"}}, "begin must be one of"),
    ("swav", {"queue_size": 8}, "--config.objective.queue_size=8"),
    ("swav", {"queue_size": 40}, "--config.objective.queue_size=40"),
    ("swav", {"queue_epochs": 3.8}, "--config.objective.queue_epochs=3.8"),
    ("dino", {"warmup_epochs": -1.0}, "--config.objective.warmup_epochs=-1.0"),
    ("dino", {"warmup_epochs": 5.0}, "--config.objective.warmup_epochs=5.0"),
    ("swav", {"epsilon": 0.0}, "--config.objective.epsilon=0.0"),
    ("swav", {"prototypes": 1}, "--config.objective.prototypes=1"),
    ("swav", {"freeze_epochs": 4.0}, "--config.objective.freeze_epochs=4.0"),
    ("swav_er", {"entropy_scope": 5}, "--config.objective.entropy_scope=5"),
    ("simclr_er", {"kappa": 0.0}, "--config.objective.kappa=0.0"),
    ("simclr_er", {"entropy_scope": 5}, "entropy_scope=5"),
    ("byol_er", {"estimator": "knn"}, "--config.objective.estimator=knn"),
    ("dino_er", {"entropy_views": "one"}, "entropy_views=one"),
    ("deepcluster", {"clusters": (1,)}, "--config.objective.clusters=(1,)"),
    ("deepcluster", {"clusters": (81,)}, "at most the images of an epoch, 80"),
    ("deepcluster", {"iterations": 0}, "--config.objective.iterations=0"),
    ("deepcluster_er", {"temperature": 0.0}, "temperature=0.0"),
  ],
)
def test_mistakes_are_told_before_anything_compiles(name, changes, said):
  with pytest.raises(UsageError) as e:
    make(name, **changes)
  assert said in str(e.value), str(e.value)


def test_a_run_of_one_epoch_has_no_clusters():
  config = tiny.step_config("deepcluster")
  run = RunInfo(STEPS, STEPS, STEPS * 64, 64, 1)
  encoder = build_encoder(config.encoder, config.views["global"].size)
  with pytest.raises(UsageError, match=r"--config\.epochs must be"):
    objectives.select(config.objective, encoder, run)


@pytest.mark.parametrize(
  ("name", "views", "said"),
  [
    ("dino", {"global": {"count": 0}}, "--config.views.global.count=0: dino"),
    ("swav", {"global": {"count": 3}}, "--config.views.global.count=3: swav"),
    ("dino", {"local": {"size": 12}}, "--config.views.local.size=12: larger"),
    ("dino", {"local": {"size": 6}}, "size=6: not a multiple of"),
    ("byol", {"local": {"count": 2, "size": 4}}, "byol has no use for"),
  ],
)
def test_views_that_do_not_fit(name, views, said):
  config = tiny.step_config(name)
  config.unlock()
  for kind, changes in views.items():
    if kind not in config.views:
      config.views[kind] = config.views["global"].copy_and_resolve_references()
    config.views[kind].update(changes)
  objective, _, _ = make(name)
  with pytest.raises(UsageError) as e:
    begin.check_views(config, objective)
  assert said in str(e.value), str(e.value)


def test_a_teacher_that_is_not_there_cannot_be_evaluated():
  config = tiny.step_config("swav")
  config.evaluation.network = "teacher"
  with pytest.raises(UsageError, match="swav keeps no teacher"):
    begin.check_evaluated(config, start("swav")[2].carry)
  begin.check_evaluated(config, start("dino")[2].carry)


def test_a_bank_that_the_devices_cannot_split():
  config = tiny.step_config("deepcluster")
  config.batch_size = 60
  with pytest.raises(UsageError, match=r"--config\.mesh: 6 devices .* bank"):
    tiny.Run(config, devices=6, compiled=False)


def keywords(function):
  """Of a function and, where it passes the rest on, of what it calls."""
  return {
    name
    for name, p in inspect.signature(function).parameters.items()
    if p.kind is p.KEYWORD_ONLY
  }


@pytest.mark.parametrize(
  ("name", "functions"),
  [
    ("dino", [dino.distillation]),
    ("dino_er", [dino_er.make, dino.distillation]),
    ("swav", [swav.make, swav.prototypical]),
    ("swav_er", [swav_er.make, swav.prototypical]),
    ("deepcluster", [deepcluster.clustered]),
    ("deepcluster_er", [deepcluster_er.make, deepcluster.clustered]),
    ("simclr_er", [simclr_er.make]),
    ("byol_er", [byol_er.make]),
  ],
)
def test_every_switch_is_a_key_of_the_config(name, functions):
  known = set(tiny.load_config(name).objective)
  # What `make` binds itself.
  bound = {"init_carry", "carry_sharding"}
  if name == "swav":
    bound.add("target_temperature")  # Sinkhorn's epsilon
  for function in functions:
    assert keywords(function) - bound <= known


def test_frozen_steps_are_those_of_the_run():
  run = RunInfo(20, 5, 320, 64)
  assert parts.frozen_steps("freeze_epochs", 1.5, run) == 7
  assert parts.frozen_steps("freeze_epochs", 0.0, run) == 0
