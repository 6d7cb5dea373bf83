"""Positions of a ViT: fixed or learned, and those of another image size."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mmae_jax.interop.network import Network
from mmae_jax.models import patches
from mmae_jax.types import UsageError


def precision(tensors: Mapping[str, np.ndarray]) -> float:
  """The largest relative rounding among the types of a file."""
  kinds = {x.dtype for x in tensors.values()}
  return max(
    (float(ml_dtypes.finfo(k).eps) for k in kinds if k.kind in "fV"),
    default=0.0,
  )


def is_fixed(positions: np.ndarray, grid: int, rounding: float) -> bool:
  """Whether positions are MAE's sines and cosines but for the rounding.

  Args:
    positions: [1, rows, width].
    grid: patches along one side.
    rounding: relative, of the file's type.
  """
  rows, width = positions.shape[1:]
  if width % 4 or rows != 1 + grid**2:
    return False
  table = patches.position_table(width, grid)
  return bool(np.max(np.abs(positions[0] - table)) <= 2 * rounding)


def fix(
  network: Network,
  places: dict[str, str],
  options: Mapping[str, Any],
  rounding: float,
) -> None:
  """Fixed positions are no parameters here; another size resizes them.

  Args:
    network: with its config; its arrays and config are changed.
    places: {name in the file: path}, changed where an array moves.
    options: image_size, where another is asked for.
    rounding: of `precision`.
  Raises:
    UsageError: an image size that the patches do not divide.
  """
  config, arrays = network.config, network.arrays
  if config.encoder.name != "vit":
    return
  size, patch = config.views["global"].size, config.encoder.patch_size
  wanted = options.get("image_size") or size
  if wanted < patch or wanted % patch:
    raise UsageError(f"--image_size={wanted}: not a multiple of {patch}")
  resized = wanted != size
  if resized:
    network.notes.append(
      f"positions are resized from {size // patch}^2 to {wanted // patch}^2"
      " patches (bicubic), and learned from here on"
    )
    config.views["global"].size = wanted
    config.encoder.learned_positions = True
  for role in ("student", "teacher"):
    path = f"{role}/params/encoder/pos_embed"
    if path not in arrays:
      continue
    if resized:
      matrix = patches.resize_positions(size // patch, wanted // patch)
      table = arrays[path][0]
      places_there = matrix @ table[1:].astype(np.float64)
      arrays[path] = np.concatenate(
        [table[:1], places_there.astype(table.dtype)]
      )[None]
    elif not config.encoder.learned_positions:
      _keep(path, arrays, places)
  path = "student/params/decoder/pos_embed"
  if path in arrays:
    fixed = is_fixed(arrays[path], size // patch, rounding)
    if fixed and not resized:
      _keep(path, arrays, places)
    else:
      why = "the image size differs" if fixed else "its positions are not MAE's"
      network.notes.append(f"the decoder is kept, but not used: {why}")
      for name in [
        p for p in arrays if p.startswith("student/params/decoder/")
      ]:
        _keep(name, arrays, places)
      for key in ("decoder_width", "decoder_depth", "decoder_heads"):
        del config.objective[key]


def _keep(path, arrays, places):
  kept = path.replace("/params/", "/kept/")
  arrays[kept] = arrays.pop(path)
  for name, place in places.items():
    if place == path:
      places[name] = kept
