"""Colour on the device: uint8 batches become the float views of a method.

Labels stop here: what an objective receives holds none.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from mmae_jax import types

Photometry = Callable[[jax.Array, Mapping[str, jax.Array]], types.Views]
_FACTS = ("index", "seed")


def normalise(pixels, *, mean, std):
  """Standardises the channels of 8-bit images, (x / 255 - mean) / std.

  Args:
    pixels: uint8 [..., 3].
    mean: three channel means of pixels in [0, 1].
    std: three channel deviations of pixels in [0, 1], positive.
  Returns:
    float32 [..., 3].
  """
  # One multiplication and one addition; the constants are rounded once, from
  # float64.
  mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
  scale = jnp.asarray(1 / (255 * std), jnp.float32)
  return pixels.astype(jnp.float32) * scale - jnp.asarray(
    mean / std, jnp.float32
  )


def denormalise(views, *, mean, std):
  """The inverse of `normalise`, clipped to 8 bits, for pictures in reports.

  Args:
    views: float [..., 3].
    mean: as in `normalise`.
    std: as in `normalise`.
  Returns:
    uint8 [..., 3].
  """
  mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
  levels = (np.asarray(views, np.float64) * std + mean) * 255
  return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def make_photometry(config: ConfigDict) -> Photometry:
  """The function that the train step calls on each batch.

  Args:
    config: the run's; `views[name].mean` and `.std` are read.
  Returns:
    photometry(key, batch) -> views: per kind of view float32
    [batch, count, size, size, 3]; `index` and `seed` are kept, labels are not.
    `key` is the step's; a random operation folds each image's seed into it.
  Raises:
    UsageError: mean or std is not three numbers, or std is not positive.
  """
  chains = {
    name: _chain(name, view)
    for name, view in config.views.items()
    if view.count
  }

  def photometry(key, batch):
    views = {name: batch[name] for name in _FACTS if name in batch}
    for name, chain in chains.items():
      views[name] = chain(key, batch[name], batch.get("seed"))
    return views

  return photometry


def _chain(name, view):
  """(key, uint8 [batch, count, ...], seed [batch]) -> float32, one kind."""
  mean, std = tuple(view.mean), tuple(view.std)
  for key, value in (("mean", mean), ("std", std)):
    if len(value) != 3 or (key == "std" and min(value) <= 0):
      raise types.UsageError(
        f"--config.views.{name}.{key}={value}: needs three"
        f" {'positive ' if key == 'std' else ''}numbers, one a channel"
      )

  def apply(key, pixels, seed):
    del key, seed  # nothing random here
    return normalise(pixels, mean=mean, std=std)

  return apply
