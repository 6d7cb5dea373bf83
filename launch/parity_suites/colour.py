"""Colour and blur beside Pillow, for launch/parity.py.

Part of the suite `images`. Pillow rounds to 8 bits after each operation and
cuts off the fraction where it blends; ours stays in floating point until the
view is made.
"""

import colorsys

import jax
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from mmae_jax.data import blur, colour, photometry
from parity_suites.pictures import LEVELS, SIZE, apart, pictures, row
from parity_suites.rows import OURS, error

_FACTORS = (0.3, 0.8, 1.6)
_TURNS = (20, -60, 128)  # of Pillow's 8-bit hue
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


def rows():
  """Jitter, grey, solarise, normalise, blur."""
  yield from _colour()
  yield from _hue()
  yield from _blur()


def _planes(images):
  """uint8 [..., height, width, 3] to float32 planes in [0, 1]."""
  return np.moveaxis(images, -1, -3).astype(np.float32) / 255


def _levels(planes):
  """Planes in [0, 1] to grey levels, [..., height, width, 3]."""
  return np.moveaxis(np.asarray(planes, np.float64), -3, -1) * 255


def _jittered(images, values, forms="pillow"):
  """One operation for each image: `values` [4, count], 1 or 0 turns is none."""
  order = np.tile(colour.ORDERS[:1], (len(images), 1))

  @jax.jit
  def run(x, values):
    return colour.jitter(
      x,
      list(values[:_HUE]),
      values[_HUE],
      order,
      forms=forms,
      additive=False,
      hue_last=False,
    )

  return _levels(run(_planes(images), values.astype(np.float32)))


def _colour():
  operations = {
    "brightness": (_BRIGHTNESS, ImageEnhance.Brightness, 1.0),
    "contrast": (_CONTRAST, ImageEnhance.Contrast, 1.5),
    "saturation": (_SATURATION, ImageEnhance.Color, 1.5),
  }
  count = len(_FACTORS)
  images = pictures(3 * count, SIZE, SIZE, seed=2)
  values = np.ones((4, 3 * count))
  values[_HUE] = 0
  for operation, _, _ in operations.values():
    here = slice(operation * count, (operation + 1) * count)
    values[operation, here] = _FACTORS
  found = _jittered(images, values)
  for name, (operation, enhance, most) in operations.items():
    errors = {}
    for j, factor in enumerate(_FACTORS):
      i = operation * count + j
      theirs = enhance(Image.fromarray(images[i])).enhance(factor)
      errors[f"factor {factor}"] = apart(found[i], theirs)
    yield row(
      f"colour: {name}",
      errors,
      most,
      note=f"{LEVELS}; Pillow cuts the fraction off"
      + ("" if name == "brightness" else " and rounds the grey image"),
    )

  images = pictures(3, SIZE, SIZE, seed=3)
  ours = _levels(colour.grey(_planes(images), forms="pillow"))[..., 0]
  theirs = [ImageOps.grayscale(Image.fromarray(i)) for i in images]
  yield row(
    "colour: grey",
    apart(ours, np.array([np.asarray(t) for t in theirs])),
    0.51,
    note=f"{LEVELS}; Pillow rounds",
  )
  errors = {}
  for threshold in (128, 60):
    ours = _levels(
      colour.solarise(_planes(images), np.full(3, threshold / 255, np.float32))
    )
    theirs = [ImageOps.solarize(Image.fromarray(i), threshold) for i in images]
    theirs = np.array([np.asarray(t) for t in theirs])
    errors[f"threshold {threshold}"] = apart(ours, theirs)
  yield row("colour: solarise", errors, 1e-3, note=LEVELS)

  mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  import torch

  kinds = {"dtype": torch.float64}
  theirs = torch.from_numpy(images).to(**kinds) / 255
  theirs = (theirs - torch.tensor(mean, **kinds)) / torch.tensor(std, **kinds)
  yield row(
    "colour: normalise",
    error(photometry.normalise(images, mean=mean, std=std), theirs),
    1e-6,
    other=f"{OURS}, float64",
  )


def _hue():
  """Against Pillow, whose H, S and V have 8 bits; and against colorsys."""
  images = pictures(3, SIZE, SIZE, seed=4)
  images[0, 0, :4] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0]]
  values = np.ones((4, 3))
  values[_HUE] = np.array(_TURNS) / 255
  found = _jittered(images, values)
  largest, mean, exact = {}, {}, {}
  for i, turn in enumerate(_TURNS):
    hsv = np.array(Image.fromarray(images[i]).convert("HSV"))
    hsv[..., 0] += np.array(turn).astype(np.uint8)
    theirs = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"), np.float64)
    label = f"{turn} of 255"
    largest[label] = apart(found[i], theirs)
    mean[label] = float(np.mean(np.abs(found[i] - theirs)))
    pixels = []
    for pixel in images[i].reshape(-1, 3) / 255:
      h, s, v = colorsys.rgb_to_hsv(*pixel)
      pixels.append(colorsys.hsv_to_rgb((h + turn / 255) % 1, s, v))
    exact[label] = apart(found[i], 255 * np.reshape(pixels, images[i].shape))
  why = (
    f"{LEVELS}; Pillow rounds H, S and V to 8 bits, a step of H is six levels"
  )
  yield row("colour: hue, largest", largest, 14.0, note=why)
  yield row("colour: hue, mean", mean, 1.5, note=why)
  yield row(
    "colour: hue, exact",
    exact,
    5e-3,
    other="Python's colorsys, float64",
    note=LEVELS,
  )


def _blur():
  import torch

  sigmas = np.array([0.1, 0.5, 0.9, 1.3, 2.0], np.float32)
  images = pictures(len(sigmas), SIZE, SIZE, seed=5)
  matrix = jax.jit(lambda s: blur.pillow_matrix(s, SIZE, highest=2.0))(sigmas)
  found = _levels(blur.blur(_planes(images), matrix))
  largest, mean = {}, {}
  for i, sigma in enumerate(sigmas):
    filtered = Image.fromarray(images[i]).filter(
      ImageFilter.GaussianBlur(float(sigma))
    )
    difference = found[i] - np.asarray(filtered, np.float64)
    largest[f"sigma {sigma:g}"] = float(np.max(np.abs(difference)))
    mean[f"sigma {sigma:g}"] = float(np.mean(np.abs(difference)))
  why = f"{LEVELS}; Pillow rounds after each of six passes"
  yield row("blur: three boxes, largest", largest, 3.0, note=why)
  yield row("blur: three boxes, mean", mean, 0.8, note=why)

  size, radius = 48, 2  # a twentieth of the image
  images = pictures(3, size, size, seed=6)
  sigmas = np.array([0.1, 1.0, 2.0], np.float32)
  matrix = jax.jit(lambda s: blur.gaussian_matrix(s, size))(sigmas)
  found = np.asarray(blur.blur(_planes(images), matrix))
  errors = {}
  for i, sigma in enumerate(sigmas):
    taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-taps.square() / (2 * float(sigma) ** 2))
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    x = torch.from_numpy(_planes(images)[i].astype(np.float64))[:, None]
    theirs = torch.nn.functional.conv2d(x, kernel[None, None], padding=radius)
    errors[f"sigma {sigma:g}"] = error(found[i], theirs[:, 0])
  yield row(
    "blur: truncated Gaussian, zeros outside",
    errors,
    1e-5,
    other=f"torch {torch.__version__} conv2d, float64",
  )
