"""Colour operations on batches of planes, one parameter an image.

Images are float32 [..., 3, height, width] in [0, 1]: planes, because colour
works across the channels and a blur within one. A parameter has the leading
shape [...]. Every operation clips to [0, 1] and stays in floating point, where
torchvision on Pillow images goes back to 8 bits after each: Pillow cuts the
fraction of a grey level off, rounds the grey image and its mean, and rounds H,
S and V, so that a turned hue may be some levels away.

Two families of definitions are in use, called `forms`:

    "pillow"      contrast blends with the mean of the grey image, saturation
                  with the grey image, grey is .299 R + .587 G + .114 B
    "tensorflow"  contrast blends each channel with its own mean, saturation
                  scales S of HSV, grey is .2989 R + .5870 G + .1140 B
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

FORMS = ("pillow", "tensorflow")
_GREY = {
  "pillow": (0.299, 0.587, 0.114),
  "tensorflow": (0.2989, 0.5870, 0.1140),
}
# [order, operation] -> in which of the four rounds the operation comes.
ORDERS = np.argsort(list(itertools.permutations(range(4))), axis=1).astype(
  np.int32
)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


def grey(x, *, forms):
  """The weighted sum of the channels.

  Args:
    x: [..., 3, height, width].
    forms: "pillow" or "tensorflow".
  Returns:
    [..., 1, height, width].
  """
  red, green, blue = _channels(x)
  r, g, b = _GREY[forms]
  return r * red + g * green + b * blue


def blend(x, factor, towards, shift=0.0):
  """clip(factor x + (1 - factor) towards + shift): all of jitter but hue."""
  return jnp.clip(factor * x + (1 - factor) * towards + shift, 0, 1)


def turn_hue(x, turns):
  """Adds to H of HSV and keeps S and V.

  With h = 6 H, largest channel V and V - smallest channel C, the new channels
  are V - C clip(min(k, 4 - k)), k = (n + h + 6 turns) mod 6, n = 5, 3, 1.

  Args:
    x: [..., 3, height, width].
    turns: [...], in turns of the colour circle.
  Returns:
    The same shape.
  Source:
    Smith 1978 (doi 10.1145/800248.807361) for HSV, as Pillow, TensorFlow and
    colorsys have it. Pillow rounds H, S and V to 8 bits, so its colours differ
    by some grey levels.
  """
  red, green, blue = _channels(x)
  value, chroma = _value_and_chroma(x)
  scale = 1 / jnp.where(chroma > 0, chroma, 1)
  hue = jnp.where(
    value == red,
    (green - blue) * scale,
    jnp.where(
      value == green, 2 + (blue - red) * scale, 4 + (red - green) * scale
    ),
  )
  hue += 6 * turns[..., None, None, None]
  k = hue + jnp.asarray([5, 3, 1], x.dtype)[:, None, None]
  k -= 6 * jnp.floor(k / 6)
  return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


def _channels(x):
  return (x[..., i : i + 1, :, :] for i in range(3))


def _value_and_chroma(x):
  """The largest channel, and what the smallest lacks of it."""
  # Not jnp.max over the axis, which takes a quarter longer on a CPU.
  red, green, blue = _channels(x)
  value = jnp.maximum(jnp.maximum(red, green), blue)
  return value, value - jnp.minimum(jnp.minimum(red, green), blue)


def jitter(x, factors, turns, rounds, *, forms, additive, hue_last):
  """Brightness, contrast, saturation and hue, each image in its own order.

  Branches for each image are none under jit: four rounds that compute all four
  operations and select took three times as long. Hue, the dearest, is computed
  once, between the three rounds that may come before it and the three that may
  come after; all others are one blend, and in a round that an image does not
  need its factor is 1, which changes no bit.

  Args:
    x: [..., 3, height, width].
    factors: three of [...]: of brightness (the shift, if additive), contrast
      and saturation.
    turns: [...], of hue; None leaves it out.
    rounds: int [..., 4], rows of `ORDERS`: when brightness, contrast,
      saturation and hue come.
    forms: "pillow" or "tensorflow".
    additive: whether brightness is a shift.
    hue_last: promises that no image has its hue turned before the rest, which
      saves half of the rounds.
  Returns:
    The same shape.
  """
  rounds = rounds[..., None, None, None]
  brightness, contrast, saturation = (f[..., None, None, None] for f in factors)
  shift = brightness if additive else 0.0
  brightness = 1.0 if additive else brightness
  last = rounds[..., _HUE, :, :, :]

  def one_round(k, x, wanted):
    bright, contrasted, saturated = (
      wanted & (rounds[..., i, :, :, :] == k)
      for i in (_BRIGHTNESS, _CONTRAST, _SATURATION)
    )
    if forms == "pillow":
      base = grey(x, forms=forms)
      scale = saturation
      mean = jnp.mean(base, axis=(-2, -1), keepdims=True)
    else:
      base, chroma = _value_and_chroma(x)
      # S may not exceed 1.
      scale = jnp.minimum(
        saturation, jnp.where(chroma > 0, base, jnp.inf) / chroma
      )
      mean = jnp.mean(x, axis=(-2, -1), keepdims=True)
    factor = jnp.where(bright, brightness, 1.0)
    factor = jnp.where(contrasted, contrast, factor)
    factor = jnp.where(saturated, scale, factor)
    towards = jnp.where(contrasted, mean, jnp.where(saturated, base, 0.0))
    return blend(x, factor, towards, jnp.where(bright, shift, 0.0))

  # Loops, so that XLA keeps the rounds apart: fused into one another, they are
  # computed again for every channel.
  x = jax.lax.fori_loop(0, 3, lambda k, x: one_round(k, x, k < last), x)
  if turns is not None:
    x = turn_hue(x, turns)
  if hue_last:
    return x
  return jax.lax.fori_loop(1, 4, lambda k, x: one_round(k, x, k > last), x)


def solarise(x, threshold):
  """Inverts what is at least as bright as the threshold.

  Args:
    x: [..., 3, height, width].
    threshold: [...], in [0, 1]; Pillow's 128 is 128 / 255.
  Returns:
    The same shape.
  """
  return jnp.where(x < threshold[..., None, None, None], x, 1 - x)
