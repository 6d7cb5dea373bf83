"""Geometry on the host: all views of an image are cut from one decoding."""

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mmae_jax import types
from mmae_jax.data import images
from mmae_jax.data.images import decode

__all__ = ["View", "centre_view", "decode", "random_views", "read_views"]

_ATTEMPTS = 10
_SMALL = 64
_INTERPOLATION = {
  "bicubic": Image.Resampling.BICUBIC,
  "bilinear": Image.Resampling.BILINEAR,
}


class View(NamedTuple):
  """One entry of `config.views`, checked.

  Attributes:
    count: views of this kind per image.
    size: side of the square view, pixels.
    scale: lowest and highest share of the image's area.
    ratio: lowest and highest width / height of the box that is cut.
    resample: Pillow's filter.
    flip: probability of a horizontal flip.
    retry: draw again while a box does not fit (torchvision); False clips the
      box to the image, as MAE's linear probe does.
  """

  count: int
  size: int
  scale: tuple[float, float]
  ratio: tuple[float, float]
  resample: Image.Resampling
  flip: float
  retry: bool = True


def read_views(views: Mapping[str, Any]) -> dict[str, View]:
  """Checks `config.views` once, so that nothing is looked up per image.

  Args:
    views: {name: {count, size, scale, ratio, interpolation, flip}}.
  Returns:
    {name: View}, sorted by name; entries with count 0 are left out.
  Raises:
    UsageError: a value out of its range, with the key's name.
  """
  result = {}
  for name in sorted(views):
    view, key = views[name], f"--config.views.{name}"
    if view.count == 0:
      continue
    if view.size < 1 or view.count < 0:
      raise types.UsageError(
        f"{key}: count {view.count} and size {view.size} must be positive"
      )
    for pair in ("scale", "ratio"):
      if len(view[pair]) != 2:
        raise types.UsageError(
          f"{key}.{pair}={tuple(view[pair])}: needs two numbers"
        )
    low, high = view.scale
    if not 0 < low <= high <= 1:
      raise types.UsageError(
        f"{key}.scale={tuple(view.scale)}: needs 0 < low <= high <= 1"
      )
    narrow, wide = view.ratio
    if not 0 < narrow <= wide:
      raise types.UsageError(
        f"{key}.ratio={tuple(view.ratio)}: needs 0 < low <= high"
      )
    if view.interpolation not in _INTERPOLATION:
      raise types.UsageError(
        f"{key}.interpolation={view.interpolation}: must be one of"
        f" {', '.join(_INTERPOLATION)}"
      )
    if not 0 <= view.flip <= 1:
      raise types.UsageError(f"{key}.flip={view.flip}: is a probability")
    result[name] = View(
      count=view.count,
      size=view.size,
      scale=(low, high),
      ratio=(narrow, wide),
      resample=_INTERPOLATION[view.interpolation],
      flip=view.flip,
      retry=view.get("retry", True),
    )
  if not result:
    raise types.UsageError("--config.views: no view has a positive count")
  return result


def random_views(
  rng: np.random.Generator,
  image: bytes | np.ndarray,
  views: Mapping[str, View],
) -> dict[str, np.ndarray]:
  """Random resized crops, each perhaps flipped.

  A large JPEG is read at a fraction of its size where every box allows it; the
  boxes are drawn on the original size, so their distribution stays the same.

  Args:
    rng: the generator of this image at this position; nothing else is drawn
      from.
    image: an encoded file or uint8 pixels.
    views: from `read_views`.
  Returns:
    {name: uint8 [count, size, size, 3]}.
  Source:
    Szegedy et al. 2015 (arXiv 1409.4842) as torchvision's RandomResizedCrop
    states it: ten attempts, then a centre box of the nearest allowed ratio.
  """
  picture = images.open_upright(image)
  original = picture.size
  boxes, reduction = {}, math.inf
  for name, view in views.items():
    boxes[name] = [random_box(rng, original, view) for _ in range(view.count)]
    for (left, top, right, bottom), _ in boxes[name]:
      side = min(right - left, bottom - top)
      reduction = min(reduction, side / view.size)
  picture = images.load_reduced(picture, reduction)
  result = {}
  for name, view in views.items():
    cuts = np.empty((view.count, view.size, view.size, 3), np.uint8)
    for i, (box, flipped) in enumerate(boxes[name]):
      cut = np.asarray(_resize(picture, box, view, original))
      cuts[i] = cut[:, ::-1] if flipped else cut
    result[name] = cuts
  return result


def random_box(
  rng: np.random.Generator, size: tuple[int, int], view: View
) -> tuple[tuple[int, int, int, int], bool]:
  """Draws ((left, top, right, bottom), flip) in an image of (width, height)."""
  width, height = size
  low, high = view.scale
  narrow, wide = view.ratio
  log_narrow, log_wide = math.log(narrow), math.log(wide)
  for _ in range(_ATTEMPTS):
    area, shape, across, down = rng.random(4).tolist()
    area = (low + area * (high - low)) * width * height
    shape = math.exp(log_narrow + shape * (log_wide - log_narrow))
    w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
    if not view.retry:
      w, h = min(w, width), min(h, height)
    if 0 < w <= width and 0 < h <= height:
      left = int(across * (width - w + 1))
      top = int(down * (height - h + 1))
      break
  else:
    w, h = width, height
    if width / height < narrow:
      h = round(width / narrow)
    elif width / height > wide:
      w = round(height * wide)
    left, top = (width - w) // 2, (height - h) // 2
  return (left, top, left + w, top + h), rng.random() < view.flip


def _resize(picture, box, view, original):
  target = (view.size, view.size)
  if picture.size == original:
    # Cut first, then resize, as torchvision does: resize(box=...) would let
    # pixels outside the box into the filter.
    return picture.crop(box).resize(target, view.resample)
  x = picture.width / original[0]
  y = picture.height / original[1]
  reduced = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
  return picture.resize(target, view.resample, reduced)


def centre_view(
  image: bytes | np.ndarray,
  size: int,
  *,
  interpolation: str = "bicubic",
) -> np.ndarray:
  """The view that evaluation sees: resize, then cut the centre.

  The short side becomes size * 256 / 224, or `size` itself where that is at
  most 64, and the middle square is kept. Both happen in one resize of the
  central box, so a very long image costs no more than a square one.

  Args:
    image: an encoded file or uint8 pixels.
    size: side of the result, pixels.
    interpolation: "bicubic" or "bilinear", antialiased.
  Returns:
    uint8 [size, size, 3].
  """
  picture = images.open_upright(image)
  width, height = picture.size
  short = size if size <= _SMALL else size * 256 // 224
  narrow = min(width, height)
  picture = images.load_reduced(picture, narrow / short)
  sides = []
  for full, read in ((width, picture.width), (height, picture.height)):
    resized = full * short // narrow
    start = round((resized - size) / 2)
    sides.append([at * read / resized for at in (start, start + size)])
  (left, right), (top, bottom) = sides
  box = (left, top, right, bottom)
  resample = _INTERPOLATION[interpolation]
  return np.asarray(picture.resize((size, size), resample, box))
