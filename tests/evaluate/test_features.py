"""Extraction: order, padding, caching; the file of features."""

import functools
import gc

from evaluate.tiny_run import Images, tiny_config, tiny_encoder
import jax
import numpy as np
import pytest

from mmae_jax.data import photometry, pipeline
from mmae_jax.evaluate import features, hosts
from mmae_jax.types import UsageError


def _means(images):
  """Not a network: the mean of the pixels, so that rows are recognised."""
  return images.astype(np.float32).mean(axis=(1, 2, 3))


def _numbered(count):
  images = np.arange(count, dtype=np.uint8)[:, None, None, None]
  images = np.broadcast_to(images, (count, 8, 8, 3))
  return Images(images, np.arange(count) % 3, 3)


@pytest.mark.parametrize("count, batch_size", [(20, 8), (16, 16), (5, 256)])
def test_order_and_padding(mesh, count, batch_size):
  config = tiny_config()
  config.evaluation.batch_size = batch_size
  batches = features.evaluation_images(_numbered(count), config, mesh=mesh)
  rows, labels = features.extract(lambda x: _means(x), batches)
  assert rows.dtype == np.float32 and labels.dtype == np.int32
  np.testing.assert_allclose(rows[:, 0], np.arange(count))
  np.testing.assert_array_equal(labels, np.arange(count) % 3)


def test_network_features_do_not_depend_on_the_mesh(mesh):
  config = tiny_config()
  config.evaluation.batch_size = 16
  encoder, params = tiny_encoder(config)
  encode = features.encode_of(config, encoder)
  variables = {"params": params}
  replicated = jax.tree.map(
    lambda x: hosts.to_mesh(np.asarray(x), mesh, split=False), variables
  )
  source = _numbered(21)
  rows, _ = features.extract(
    functools.partial(encode, replicated),
    features.evaluation_images(source, config, mesh=mesh),
  )
  view = config.views["global"]
  pixels = photometry.normalise(source.images, mean=view.mean, std=view.std)
  apply = jax.jit(functools.partial(encoder.apply, method="features"))
  expected = apply(variables, pixels)
  np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_small_splits_are_read_once(monkeypatch, mesh):
  config = tiny_config()
  source = _numbered(9)
  calls = []
  read = pipeline.evaluation_batches
  monkeypatch.setattr(
    pipeline,
    "evaluation_batches",
    lambda *args, **kwargs: calls.append(1) or read(*args, **kwargs),
  )
  first = list(features.evaluation_images(source, config, mesh=mesh))
  second = list(features.evaluation_images(source, config, mesh=mesh))
  assert len(calls) == 1
  assert all(a is b for a, b in zip(first, second, strict=True))
  monkeypatch.setattr(features, "CACHE_BYTES", 0)
  list(features.evaluation_images(source, config, mesh=mesh, limit=8))
  list(features.evaluation_images(source, config, mesh=mesh, limit=8))
  assert len(calls) == 3
  key = id(source)
  assert key in features._cache
  del source
  gc.collect()
  assert key not in features._cache


def test_a_limit_takes_a_fixed_sample(mesh):
  config = tiny_config()
  rows, _ = features.extract(
    _means,
    features.evaluation_images(_numbered(50), config, mesh=mesh, limit=12),
  )
  chosen = features.chosen_positions(50, 12)
  np.testing.assert_array_equal(rows[:, 0], chosen)
  assert len(set(chosen)) == 12 and chosen.max() > 25
  np.testing.assert_array_equal(features.chosen_positions(9, 12), range(9))
  np.testing.assert_array_equal(features.chosen_positions(9, 0), range(9))


def test_encode_is_made_once():
  config = tiny_config()
  encoder, params = tiny_encoder(config)
  again, _ = tiny_encoder(config)
  encode = features.encode_of(config, encoder)
  assert features.encode_of(config, again) is encode
  images = np.zeros((2, 1, 8, 8, 3), np.uint8)
  assert encode({"params": params}, images).shape == (2, 16)
  assert features.feature_dim(encode, {"params": params}, 8) == 16


@pytest.mark.parametrize("change", [{"layer": 2}, {"pool": "max"}])
def test_unknown_layer_or_pool(change):
  config = tiny_config()
  config.evaluation.update(change)
  encoder, params = tiny_encoder(config)
  encode = features.encode_of(config, encoder)
  with pytest.raises(UsageError, match="--pool, --layer"):
    features.feature_dim(encode, {"params": params}, 8)


def test_nothing_to_evaluate():
  with pytest.raises(UsageError, match="empty"):
    features.extract(_means, [])


def test_missing_labels():
  images = np.zeros((2, 8, 8, 3), np.uint8)
  for classes, reason in ((0, "no labels"), (1, "one class"), (2, "")):
    source = Images(images, np.zeros(2, int), classes)
    assert reason in features.missing_labels(source)
    assert bool(reason) == bool(features.missing_labels(source))


def test_encoder_variables_of_a_network():
  params = {"encoder": {"a": 1}, "head": {"b": 2}}
  state = {"batch_stats": {"encoder": {"c": 3}, "head": {}}, "other": {}}
  assert features.encoder_variables(params, state) == {
    "params": {"a": 1},
    "batch_stats": {"c": 3},
  }


def test_npz(tmp_path):
  path = tmp_path / "sub" / "features.npz"
  features.save_npz(path, a=np.arange(3))
  features.save_npz(path, a=np.arange(4))
  np.testing.assert_array_equal(np.load(path)["a"], range(4))
  assert [p.name for p in path.parent.iterdir()] == ["features.npz"]
  (tmp_path / "file").write_text("")
  with pytest.raises(UsageError, match=r"f\.npz: can't be written"):
    features.save_npz(tmp_path / "file" / "f.npz", a=np.arange(3))
