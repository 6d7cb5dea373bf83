"""Colour on the device: uint8 batches become the float views of a method.

Labels stop here: what an objective receives holds none.
"""

from collections.abc import Callable, Mapping
import zlib

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from mmae_jax import types
from mmae_jax.data import blur as blur_lib, colour
from mmae_jax.data.recipe import Recipe, read_recipe

Photometry = Callable[[jax.Array, Mapping[str, jax.Array]], types.Views]
_FACTS = ("index", "seed")
# Uniform numbers of an image and view. All are drawn, whatever is on: another
# strength, or a blur more, leaves the rest of an image's draws as they were.
_DRAWS = (
  *("jitter", "brightness", "contrast", "saturation", "hue", "order"),
  *("grey", "blur", "sigma", "solarise"),
)


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

  In this order: jitter, grey, blur, solarise, normalise. Between them images
  are floating point in [0, 1], never rounded to 8 bits.

  Args:
    config: the run's; `views[name].mean`, `.std` and `.photometry` are read.
  Returns:
    photometry(key, batch) -> views: per kind of view float32
    [batch, count, size, size, 3]; `index` and `seed` are kept, labels are not.
    `key` is the step's; each image's seed is folded into it, and then the
    number of the view, so an image's draws do not depend on its row.
  Raises:
    UsageError: mean or std is not three numbers, std is not positive, or a
      value of `photometry` is out of its range.
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
  recipe = read_recipe(name, view)

  def apply(key, pixels, seed):
    if not recipe.is_on:
      return normalise(pixels, mean=mean, std=std)
    parameters = draw(key, seed, recipe)
    x = jnp.moveaxis(pixels, -1, -3).astype(jnp.float32) / 255
    x = jnp.moveaxis(distort(x, parameters, recipe), -3, -1)
    return normalise(255 * x, mean=mean, std=std)

  return apply


def draw(key, seed, recipe: Recipe) -> dict[str, jax.Array]:
  """What happens to each view of each image.

  Args:
    key: of the step.
    seed: uint32 [batch], of the images.
    recipe: of the kind of view.
  Returns:
    All [batch, count]: "jitter", "grey", "blur", "solarise", bool, whether it
    is applied; "brightness", "contrast", "saturation", factors (brightness the
    shift, where additive); "hue", turns; "sigma", pixels; and "rounds", int32
    [batch, count, 4], rows of `colour.ORDERS`.
  """
  # The name is folded in with the view's number: a hash less to compile.
  first = zlib.crc32(recipe.name.encode())
  views = ((first + np.arange(recipe.count)) % 2**32).astype(np.uint32)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, views)
  if recipe.sigma_of == "batch":
    keys, of_batch = jax.vmap(jax.random.split, out_axes=1)(keys)
  of_images = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))
  numbers = jax.vmap(jax.vmap(_uniform))(of_images(keys, seed))
  uniform = {name: numbers[..., i] for i, name in enumerate(_DRAWS)}
  if recipe.sigma_of == "batch":
    shared = jax.vmap(_uniform)(of_batch)[:, 0]
    uniform["sigma"] = jnp.broadcast_to(shared, uniform["sigma"].shape)

  def between(name, low, high):
    low, high = np.float32(low), np.float32(high)
    return low + (high - low) * uniform[name]

  parameters = {
    name: uniform[name] < np.float32(getattr(recipe, name))
    for name in ("jitter", "grey", "blur", "solarise")
  }
  for name in ("brightness", "contrast", "saturation"):
    strength = np.asarray(getattr(recipe, name))
    if name == "brightness" and recipe.brightness_form == "additive":
      parameters[name] = between(name, -strength, strength)
    else:
      parameters[name] = between(
        name, np.maximum(1 - strength, 0), 1 + strength
      )
  hue = np.asarray(recipe.hue)
  parameters["hue"] = between("hue", -hue, hue)
  parameters["sigma"] = between("sigma", recipe.sigma_low, recipe.sigma_high)
  orders = colour.ORDERS
  if recipe.hue_last:
    orders = orders[orders[:, -1] == 3]
  if recipe.order == "fixed":
    orders = orders[:1]
  chosen = (uniform["order"] * len(orders)).astype(jnp.int32)
  parameters["rounds"] = jnp.asarray(orders)[chosen]
  return parameters


def _uniform(key):
  return jax.random.uniform(key, (len(_DRAWS),), jnp.float32)


def distort(x, parameters, recipe: Recipe):
  """Applies what `draw` has drawn; an operation that is off costs nothing.

  Args:
    x: float32 [batch, count, 3, size, size] in [0, 1].
    parameters: from `draw`.
    recipe: of the kind of view.
  Returns:
    The same shape.
  """

  def where(name, new, old):
    return jnp.where(parameters[name][..., None, None, None], new, old)

  if recipe.jitters:
    factors = [parameters[n] for n in ("brightness", "contrast", "saturation")]
    jittered = colour.jitter(
      x,
      factors,
      parameters["hue"] if any(recipe.hue) else None,
      parameters["rounds"],
      forms=recipe.forms,
      additive=recipe.brightness_form == "additive",
      hue_last=recipe.hue_last,
    )
    x = where("jitter", jittered, x)
  if any(recipe.grey):
    x = where("grey", colour.grey(x, forms=recipe.forms), x)
  if any(recipe.blur):
    sigma, size = parameters["sigma"], x.shape[-1]
    if recipe.blur_kernel == "gaussian":
      matrix = blur_lib.gaussian_matrix(sigma, size)
    else:
      highest = max(recipe.sigma_high)
      matrix = blur_lib.pillow_matrix(sigma, size, highest=highest)
    x = where("blur", blur_lib.blur(x, matrix), x)
  if any(recipe.solarise):
    threshold = jnp.asarray(recipe.threshold, jnp.float32)
    x = where("solarise", colour.solarise(x, threshold), x)
  return x
