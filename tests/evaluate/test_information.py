"""The quantities of the information plane, and the images it is measured on."""

from evaluate.tiny_run import Images
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from mmae_jax import objectives
from mmae_jax.data import probe
from mmae_jax.evaluate import categories, information
from mmae_jax.information import vmf_uniform_entropy
from mmae_jax.models import build_encoder, flops, mae
from mmae_jax.train import begin, state as state_lib
from mmae_jax.types import TrainState

RECIPES = {"vit_b16": 1_281_167, "vit_l16": 1_281_167, None: 1437}


def unit(z):
  return z / np.linalg.norm(z, axis=1, keepdims=True)


def entropy(k, order):
  p = np.linalg.eigvalsh(k / np.trace(k))
  p = p[p > 1e-12]
  return -np.sum(p * np.log(p)) if order == 1 else -np.log(np.sum(p**order))


def expected_values(z1, z2, sample_rows):
  """The formulas of the specification in NumPy."""
  some = np.linspace(0, len(z1) - 1, sample_rows).round().astype(int)

  def cosines(z):
    return unit(z) @ unit(z).T

  matrices = {
    ("sample", 1): [cosines(z[some]) for z in (z1, z2)],
    ("sample", 2): [cosines(z) for z in (z1, z2)],
    ("feature", 1): [np.corrcoef(z.T) for z in (z1, z2)],
    ("feature", 2): [np.corrcoef(z.T) for z in (z1, z2)],
  }
  values = {}
  for (side, order), (k1, k2) in matrices.items():
    a, b, joint = (entropy(k, order) for k in (k1, k2, k1 * k2))
    values[f"{side}_entropy_{order}_a"] = a
    values[f"{side}_entropy_{order}_b"] = b
    values[f"{side}_joint_entropy_{order}"] = joint
    values[f"{side}_mutual_information_{order}"] = a + b - joint
  u1, u2 = unit(z1), unit(z2)
  rows, dim = z1.shape
  values["effective_rank_a"] = np.exp(entropy(u1.T @ u1, 1))
  values["effective_rank_b"] = np.exp(entropy(u2.T @ u2, 1))
  rate = np.eye(dim) + u1.T @ u1 / dim
  values["coding_rate"] = np.linalg.slogdet(rate)[1]
  values["mean_squared_cosine"] = np.mean((u1 @ u1.T) ** 2)
  values["alignment"] = np.mean(np.sum((u1 - u2) ** 2, axis=1))
  bounds = []
  for u in (u1, u2):
    density = np.log(np.mean(np.exp(10 * u @ u.T), axis=1))
    weights = np.exp(density) / np.sum(np.exp(density))
    bounds.append(10 * np.mean(np.sum(u1 * u2, axis=1)) - weights @ density)
  values["er_bound"] = np.mean(bounds)
  values["er_ceiling"] = np.log(rows)
  values["er_uniform_entropy"] = vmf_uniform_entropy(rows, dim)
  return values


def test_the_quantities():
  rng = np.random.default_rng(0)
  z1 = rng.normal(size=(30, 6)) + 1
  z2 = z1 + 0.5 * rng.normal(size=z1.shape)
  with jax.enable_x64(True):
    got = jax.device_get(
      information.measure(
        jnp.asarray(z1), jnp.asarray(z2), {"once": z2}, sample_rows=12
      )
    )
  for name, value in expected_values(z1, z2, 12).items():
    np.testing.assert_allclose(got[name], value, rtol=1e-9, err_msg=name)
  assert got["rows"] == 30 and got["sample_rows"] == 12
  assert got["effective_rank_once"] == got["effective_rank_b"]
  assert np.exp(got["entropy_1_once"]) == pytest.approx(got["effective_rank_b"])
  bound = got["er_entropy"] - got["er_reconstruction"]
  assert bound == pytest.approx(got["er_bound"], rel=1e-12)
  assert got["er_bound"] <= got["er_ceiling"]
  assert got["er_entropy"] < got["er_uniform_entropy"]
  for p in (got["eigenvalues_a"], got["eigenvalues_b"]):
    assert p.shape == (6,) and p.sum() == pytest.approx(1)
    assert np.all(np.diff(p) <= 0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_collapse_has_finite_values(value):
  z = jnp.full((9, 4), value)
  got = jax.device_get(information.measure(z, z, sample_rows=5))
  assert all(np.isfinite(x).all() for x in got.values())
  assert got["effective_rank_a"] == pytest.approx(1)
  for name in ("sample_joint_entropy_1", "sample_mutual_information_2"):
    assert got[name] == pytest.approx(0, abs=1e-5)


def parts(config):
  """(objective, a state of random numbers) of a config."""
  encoder = build_encoder(config.encoder, config.views["global"].size)
  info = begin.run_info(config, 400)
  objective = objectives.select(config.objective, encoder, info)
  views = tiny.photometry(None, tiny.batch(config))
  shapes, _, _ = jax.eval_shape(objective.init, jax.random.key(0), views)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: rng.normal(0, 0.5, x.shape).astype(x.dtype), shapes
  )
  state = TrainState(
    step=np.int32(0),
    params={"network": params, "probe": {}},
    model_state={},
    opt_state=(),
    carry={},
    key=jax.random.key(0),
  )
  return objective, state


def make_mesh(devices):
  return state_lib.make_mesh(devices=jax.devices()[:devices])


def source(count, split="test"):
  images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
  made = Images(images, np.zeros(count, int), 1)
  made.split = split
  return made


def test_any_number_of_devices_and_any_batch():
  """36 images: in padded batches on 8 devices, exactly on 1."""
  config = tiny.shrink(tiny.load_config("mmae"))
  config.plane.update(size=36, sample_rows=20)
  objective, state = parts(config)
  results = []
  for devices, batch_size in ((1, 12), (8, 20)):
    config.evaluation.batch_size = batch_size
    plane = information.Plane(
      config,
      objective,
      state,
      mesh=make_mesh(devices),
      train_source=source(400),
      test_source=source(100),
    )
    with jax.transfer_guard("disallow"):
      values, arrays = plane(state)
      again, _ = plane(state)
    assert again == values
    assert plane.names == ("first_mask", "second_mask")
    assert list(arrays["names"]) == list(plane.names)
    assert (values["rows"], values["sample_rows"]) == (36, 20)
    results.append({**values, "spectrum": arrays["eigenvalues_a"]})
  for name, value in results[0].items():
    np.testing.assert_allclose(
      results[1][name], value, rtol=2e-3, atol=2e-4, err_msg=name
    )


def test_which_images():
  config = tiny.shrink(tiny.load_config("mmae"))  # features of dimension 8
  config.plane.size = 100
  objective, state = parts(config)
  mesh = make_mesh(1)
  train, enough, few = source(300, "train"), source(16), source(15)
  for test, split, rows in (
    (enough, "test", 16),
    (few, "train", 100),
    (None, "train", 100),
    (source(150), "test", 100),
  ):
    plane = information.Plane(
      config, objective, state, mesh=mesh, train_source=train, test_source=test
    )
    assert (plane.probe.source.split, len(plane.probe)) == (split, rows)
  assert probe.evenly(10, 4).tolist() == [0, 3, 6, 9]
  assert probe.evenly(3, 9).tolist() == [0, 1, 2]


def test_the_views_are_always_the_same():
  """Whatever the batch, and different for each image."""
  config = tiny.load_config("mmae")
  config.unlock()
  config.views["global"].count = 2
  mesh = make_mesh(1)
  probe_set = probe.Probe(source(40), probe.evenly(40, 10), config)
  read = [
    {
      name: np.concatenate([np.asarray(batch[name]) for batch in batches])
      for name in ("global", "seed", "index", "valid")
    }
    for batches in (
      list(probe_set.batches(mesh=mesh, batch_size=size)) for size in (4, 10)
    )
  ]
  assert read[0]["valid"].tolist() == [True] * 10 + [False] * 2
  for name, rows in read[1].items():
    np.testing.assert_array_equal(read[0][name][:10], rows)
  assert read[1]["index"].tolist() == probe_set.rows.tolist()
  assert len(set(read[1]["seed"].tolist())) == 10
  assert read[1]["global"].shape == (10, 2, 8, 8, 3)
  assert np.any(read[1]["global"][:, 0] != read[1]["global"][:, 1])


@pytest.mark.parametrize(("norms", "name"), [(True, "once"), (False, "twice")])
def test_masked_features_after_one_norm_and_after_two(norms, name):
  config = tiny.shrink(tiny.load_config("mmae"))
  config.objective.normalise_twice = norms
  objective, state = parts(config)
  params = state.params["network"]
  norm = params["encoder"]["norm"]
  names = []

  @jax.jit
  def branches(key, views):
    made = objective.branches(key, params, state, views)
    names.extend(made)
    return made

  views = tiny.photometry(None, tiny.batch(config, 8))
  got = branches(jax.random.key(1), views)
  assert names == ["first_mask", "second_mask", name]
  one, two = got[name], got["first_mask"]
  if not norms:
    one, two = two, one
  mean, deviation = one.mean(1, keepdims=True), one.std(1, keepdims=True)
  expected = (one - mean) / deviation * norm["scale"] + norm["bias"]
  np.testing.assert_allclose(two, expected, rtol=1e-3, atol=1e-3)
  assert not np.allclose(got["first_mask"], got["second_mask"], atol=1e-3)


@pytest.mark.parametrize("argument", RECIPES)
@pytest.mark.parametrize("name", ["mae", "umae", "mmae"])
def test_share_of_the_training_arithmetic(name, argument):
  """Below 2 % for the ImageNet recipes, below 10 % for the main job."""
  config = tiny.load_config(name, argument)
  encoder = build_encoder(config.encoder, config.views["global"].size)
  objective, ratio = config.objective, config.objective.mask_ratio
  model = mae.MaskedAutoencoder(
    encoder,
    objective.decoder_width,
    objective.decoder_depth,
    objective.decoder_heads,
  )
  examples = RECIPES[argument]
  training = flops.training_flops(model, mask_ratio=ratio)
  # The embedded test split has 360 images.
  rows = config.plane.size if argument else 360
  points = 1 + round(1 / config.plane.every)
  once = 2 * rows * flops.encoding_flops(
    model, mask_ratio=ratio
  ) + information.measurement_flops(
    rows, encoder.feature_dim, sample_rows=config.plane.sample_rows
  )
  share = points * once / (config.epochs * examples * training)
  assert share < (0.02 if argument else 0.1)


def test_terms_of_classes():
  """By batches with padding, against the formulas on all rows at once."""
  rng = np.random.default_rng(0)
  logits, targets = rng.standard_normal((2, 30, 6)).astype(np.float32) * 3
  batches = []
  for start in (0, 16):
    rows = np.zeros((2, 16, 6), np.float32)
    own = slice(start, min(start + 16, 30))
    count = own.stop - own.start
    rows[0, :count], rows[1, :count] = logits[own], targets[own]
    valid = np.arange(16) < count
    batches.append(categories.sums(*map(jnp.asarray, rows), valid))
  sums = {k: sum(np.asarray(b[k]) for b in batches) for k in batches[0]}
  got = categories.terms(sums)

  def softmax(x):
    e = np.exp(x.astype(np.float64))
    return e / e.sum(1, keepdims=True)

  def entropy(p):
    p = p[p > 0]
    return -np.sum(p * np.log(p))

  q, p = softmax(logits), softmax(targets)
  counts = np.bincount(targets.argmax(1), minlength=6) / 30
  reconstruction = -np.mean(np.sum(p * np.log(q), 1))
  expected = {
    "er_classes_entropy": entropy(q.mean(0)),
    "er_classes_target_entropy": entropy(p.mean(0)),
    "er_classes_assignment_entropy": entropy(counts),
    "er_classes_reconstruction": reconstruction,
    "er_classes_bound": entropy(p.mean(0)) - reconstruction,
    "er_classes_ceiling": np.log(6),
  }
  assert got.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)


def test_the_plane_of_a_method_with_classes():
  config = tiny.step_config("dino")
  run = tiny.Run(config, devices=2, compiled=False)
  plane = information.Plane(
    config,
    run.objective,
    run.state,
    mesh=run.mesh,
    train_source=source(40),
    test_source=None,
  )
  values, _ = plane(run.state)
  assert values["er_classes_ceiling"] == pytest.approx(np.log(8))
  assert 0 <= values["er_classes_assignment_entropy"] <= np.log(8) + 1e-9
  assert values["er_ceiling"] == pytest.approx(np.log(40))
