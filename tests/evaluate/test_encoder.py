"""`load_encoder`, from a folder on disk to features of any image."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

import mmae_jax
from mmae_jax.data import crops
from mmae_jax.evaluate import encoder as encoder_lib, features, fit
from mmae_jax.train import checkpoint
from mmae_jax.types import UsageError


@pytest.fixture(scope="module")
def loaded(run):
  return mmae_jax.load_encoder(run.folder)


def _images(count, height=8, width=8):
  rng = np.random.default_rng(count)
  small = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
  return np.stack(
    [np.asarray(Image.fromarray(x).resize((width, height))) for x in small]
  )


def _expected(run, images):
  encode = features.encode_of(run.config, run.encoder)
  return np.asarray(encode({"params": run.params}, images))


@pytest.mark.parametrize("count", [1, 3, 8, 21])
def test_any_batch_size(run, loaded, count):
  images = _images(count)
  rows = loaded[0](images)
  assert isinstance(rows, np.ndarray) and rows.dtype == np.float32
  np.testing.assert_allclose(rows, _expected(run, images), atol=1e-5)


def test_more_rows_than_one_call_takes(run, loaded, monkeypatch):
  monkeypatch.setattr(encoder_lib, "_ROWS", 2)
  encode, _ = mmae_jax.load_encoder(run.folder)
  images = _images(37)
  np.testing.assert_allclose(encode(images), loaded[0](images), atol=1e-5)


def test_info(run, loaded):
  info = loaded[1]
  assert info["config"].encoder.width == 16
  path = run.folder / "checkpoints" / "7"
  assert {k: v for k, v in info.items() if k != "config"} == {
    "method": "mae",
    "step": 7,
    "dim": 16,
    "image_size": 8,
    "pool": "auto",
    "layer": -1,
    "path": str(path),
    "accuracy": {"knn_accuracy": 0.5},
  }
  _, same = mmae_jax.load_encoder(path)
  assert same["step"] == 7 and same["path"] == str(path)


def test_pool_and_layer(run):
  images = _images(2)
  encode, info = mmae_jax.load_encoder(run.folder, pool="mean", layer=0)
  assert info["pool"] == "mean" and info["layer"] == 0
  config = run.config.copy_and_resolve_references()
  config.evaluation.update(pool="mean", layer=0)
  expected = features.encode_of(config, run.encoder)(
    {"params": run.params}, images
  )
  np.testing.assert_allclose(encode(images), expected, atol=1e-5)


def test_other_sizes_are_fitted_as_in_evaluation(run, loaded):
  images = _images(3, 21, 34)
  fitted = np.stack([crops.centre_view(image, 8) for image in images])
  expected = _expected(run, fitted)
  np.testing.assert_allclose(loaded[0](images), expected, atol=0.05)
  mixed = [*images, *_images(2, 30, 12)]
  rows = loaded[0](mixed)
  np.testing.assert_allclose(rows[:3], expected, atol=1e-5)
  assert rows.shape == (5, 16)


def test_nothing_in_nothing_out(loaded):
  for images in (np.zeros((0, 8, 8, 3), np.uint8), []):
    assert loaded[0](images).shape == (0, 16)


def test_device_arrays_are_taken(loaded):
  images = _images(3)
  np.testing.assert_array_equal(
    loaded[0](jnp.asarray(images)), loaded[0](images)
  )


@pytest.mark.parametrize(
  "height, width, size",
  [(8, 8, 8), (30, 50, 8), (5, 9, 8), (375, 500, 224), (97, 40, 65)],
)
def test_fit_equals_pillow(height, width, size):
  images = _images(2, height, width)
  found = np.asarray(fit.fit_images(images, size)).astype(int)
  expected = np.stack([crops.centre_view(image, size) for image in images])
  assert found.shape == expected.shape
  assert np.abs(found - expected).max() <= 2
  assert np.abs(found - expected).mean() < 0.1


@pytest.mark.parametrize(
  "images, message",
  [
    (np.zeros((2, 8, 8, 3), np.float32), r"got float32 \[2, 8, 8, 3\]"),
    (np.zeros((8, 8, 3), np.uint8), r"uint8 \[8, 8, 3\].*images\[None\]"),
    (np.zeros((2, 3, 8, 8), np.uint8), r"channels go last"),
    (np.zeros((2, 8, 8, 1), np.uint8), r"grey images are np\.repeat"),
    (np.zeros((2, 8, 8, 4), np.uint8), r"got uint8 \[2, 8, 8, 4\]"),
    (np.zeros((2, 0, 8, 3), np.uint8), r"without pixels"),
    ([np.zeros((8, 8), np.uint8)], r"image 0 of the list is uint8 \[8, 8\]"),
    ([np.zeros((8, 8, 3))], r"image 0 of the list is float64"),
    ("cat.png", r"got str"),
    (None, r"got NoneType"),
  ],
)
def test_wrong_images(loaded, images, message):
  with pytest.raises(UsageError, match="encode expects uint8 images") as error:
    loaded[0](images)
  assert error.match(message)


def test_wrong_runs(run, tmp_path):
  with pytest.raises(UsageError, match="not a run"):
    mmae_jax.load_encoder(tmp_path)
  with pytest.raises(UsageError, match=r"no checkpoint of step 3; it has 7"):
    mmae_jax.load_encoder(run.folder, step=3)
  with pytest.raises(UsageError, match=r"layer 5.*--layer"):
    mmae_jax.load_encoder(run.folder, layer=5)


def test_another_architecture(run, monkeypatch):
  config = run.config.copy_and_resolve_references()
  network = {"encoder": run.params}

  def load(params):
    found = (config, params, {}, 7, run.folder / "checkpoints" / "7")
    monkeypatch.setattr(checkpoint, "load_network", lambda *_, **__: found)
    return mmae_jax.load_encoder(run.folder)

  config.encoder.depth = 3
  with pytest.raises(UsageError, match=r"architecture.*block_2.*absent"):
    load(network)
  config.encoder.update(depth=2, width=32)
  with pytest.raises(UsageError, match=r"is \[.*16.*\], expected \[.*32"):
    load(network)
  with pytest.raises(UsageError, match="no `encoder`"):
    load({"decoder": {}})


def test_information_loads_neither_data_nor_checkpoints():
  program = (
    "import sys; from mmae_jax import information;"
    "print([m for m in ('tensorflow_datasets', 'grain', 'orbax', 'orbax"
    ".checkpoint') if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "[]"
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    mmae_jax.nothing  # noqa: B018
  assert jax.local_device_count() == 8
