"""A tiny config, its encoder, and a source of arrays."""

import functools

import jax
import numpy as np

from mmae_jax import models, recipes


def tiny_config():
  """The embedded digits with an encoder of two small blocks."""
  config = recipes.masked("mae", None)
  config.encoder.update(width=16, depth=2, heads=2, patch_size=4)
  config.evaluation.linear.update(epochs=3, warmup_epochs=1)
  return config


def tiny_encoder(config):
  """(encoder, its parameters)."""
  size = config.views["global"].size
  encoder = models.build_encoder(config.encoder, size)
  image = np.zeros((1, size, size, 3), np.float32)
  init = jax.jit(functools.partial(encoder.init, method="features"))
  return encoder, init(jax.random.key(0), image)["params"]


class Images:
  """A source of arrays; also what `data.source.Source` promises."""

  name, split, rejected, in_memory = "arrays", "train", [], True
  class_names = None

  def __init__(self, images, labels, num_classes):
    self.images, self.labels = images, labels
    self.num_classes = num_classes

  def __len__(self):
    return len(self.images)

  def __getitem__(self, i):
    return {"image": self.images[i], "label": int(self.labels[i]), "index": i}
