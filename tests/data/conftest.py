"""Shared pieces of the data tests: small configs, folders of tiny images."""

import numpy as np
from PIL import Image
import pytest

from mmae_jax import config as config_lib


@pytest.fixture
def make_config(tmp_path):
  """make_config(**data keys) -> a config of 8 x 8 views, batch 16."""

  def make(**data):
    config = config_lib.base()
    config.batch_size = 16
    config.views["global"].size = 8
    if "folder" in data:
      data = {"dir": str(tmp_path / "tfds"), **data}
    config.data.update(data)
    return config

  return make


def pixels(seed, height=12, width=10):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def make_folder(tmp_path):
  """make_folder({"cat": 3, "": 2}) -> a folder with that many PNGs in each."""

  def make(counts, name="images"):
    root = tmp_path / name
    for i, (sub, count) in enumerate(counts.items()):
      (root / sub).mkdir(parents=True, exist_ok=True)
      for j in range(count):
        path = root / sub / f"{j:03d}.png"
        Image.fromarray(pixels(1000 * i + j)).save(path)
    return root

  return make
