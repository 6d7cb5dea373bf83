"""The suite `images` of launch/parity.py: Pillow, and evaluation of features.

Errors of images are grey levels of 255.
"""

import numpy as np
from PIL import Image, ImageOps

from mmae_jax.data import crops
from mmae_jax.evaluate import fit
from mmae_jax.models import patches
from parity_suites import colour, evaluation
from parity_suites.pictures import LEVELS, SIZE, apart, pictures, row
from parity_suites.rows import OURS, PRECISIONS, error


def rows():
  """Resizing, colour, and evaluations of equal features."""
  yield from _resizing()
  yield from _positions()
  yield from colour.rows()
  yield from evaluation.rows()


# --- resizing


def _resizing():
  resamplings = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
  }
  image = pictures(1, 90, 70)[0]
  picture = Image.fromarray(image)
  errors = {}
  for name, resample in resamplings.items():
    view = crops.View(16, SIZE, (0.2, 1.0), (3 / 4, 4 / 3), resample, 0.5)
    ours = crops.random_views(
      np.random.default_rng(7), image, {"global": view}
    )["global"]
    rng = np.random.default_rng(7)
    for i in range(view.count):
      box = _drawn_box(rng, picture.size, view)
      cut = picture.crop(box).resize((SIZE, SIZE), resample)
      cut = ImageOps.mirror(cut) if rng.random() < view.flip else cut
      errors[f"{name}, view {i}"] = apart(ours[i], cut)
  yield row(
    "random crop and resize: boxes by the formula", errors, 0.0,
    precision="uint8",
    note="a share of the area, a log-uniform shape, a place; drawn again where"
    " it does not fit",
  )  # fmt: skip

  # In two steps, as torchvision has it: the short side, then the middle.
  on_host, on_device = {}, {}
  for width, height in ((90, 70), (70, 90), (320, 213), (50, 60)):
    image = pictures(1, width, height, seed=1)[0]
    for size in (32, 96):
      for name, resample in resamplings.items():
        short = size if size <= 64 else size * 256 // 224
        narrow = min(width, height)
        picture = Image.fromarray(image).resize(
          (width * short // narrow, height * short // narrow), resample
        )
        left = round((picture.width - size) / 2)
        top = round((picture.height - size) / 2)
        cut = picture.crop((left, top, left + size, top + size))
        label = f"{width} x {height} to {size}, {name}"
        ours = crops.centre_view(image, size, interpolation=name)
        on_host[label] = apart(ours, cut)
        if size == 32:
          ours = fit.fit_images(image[None], size, interpolation=name)[0]
          on_device[label] = apart(ours, cut)
  yield row(
    "centre view: of evaluation, on the host",
    on_host,
    1.0,
    precision="uint8",
    note=f"{LEVELS}; ours resizes and cuts in one step",
  )
  yield row(
    "centre view: on the device",
    on_device,
    1.0,
    precision="uint8",
    note=f"{LEVELS}; weights in float32, not in Pillow's fixed point",
  )


def _drawn_box(rng, size, view):
  """(left, top, right, bottom) of uniform numbers, the first that fits."""
  while True:
    share, shape, across, down = rng.random(4)
    area = np.interp(share, (0, 1), view.scale) * np.prod(size)
    ratio = np.exp(np.interp(shape, (0, 1), np.log(view.ratio)))
    sides = np.round(np.sqrt([area * ratio, area / ratio])).astype(int)
    if np.all(sides <= size):
      corner = np.floor([across, down] * (size - sides + 1)).astype(int)
      return (*corner, *(corner + sides))


def _positions():
  """Positions of another image size, by torch's interpolate; and MAE's."""
  import torch
  from torch_reference import vit

  yield row(
    "positions of MAE",
    {
      f"{width}, {grid} x {grid}": error(
        patches.position_table(width, grid), vit.positions(width, grid)[0]
      )
      for width, grid in ((48, 4), (768, 14))
    },
    1e-10,
    other=OURS,
    precision="float64",
  )
  for dtype in PRECISIONS:
    errors = {}
    for old, new in ((4, 6), (6, 4), (14, 16), (3, 3)):
      table = np.random.default_rng(8).normal(size=(old * old, 8))
      table = table.astype(dtype)
      theirs = torch.nn.functional.interpolate(
        torch.from_numpy(table.T.reshape(1, 8, old, old).copy()),
        size=(new, new),
        mode="bicubic",
        align_corners=False,
      )
      ours = patches.resize_positions(old, new).astype(dtype) @ table
      errors[f"{old} to {new}"] = error(ours.T, theirs.reshape(8, -1).numpy())
    yield row(
      "positions of another size",
      errors,
      {"float64": 1e-10, "float32": 1e-5}[dtype],
      other=f"torch {torch.__version__} interpolate, bicubic",
      precision=dtype,
    )
