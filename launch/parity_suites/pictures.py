"""Pictures for launch/parity.py, and rows of differences in grey levels."""

import numpy as np
from PIL import Image

from parity_suites.rows import compared, error, package

LEVELS = "grey levels"
SIZE = 32


def pictures(count: int, width: int, height: int, seed: int = 0) -> np.ndarray:
  """Smooth colours with some noise, uint8 [count, height, width, 3]."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
  smooth = [Image.fromarray(c).resize((width, height)) for c in coarse]
  noise = rng.normal(0, 6, (count, height, width, 3))
  return np.clip(np.array(smooth) + noise, 0, 255).astype(np.uint8)


def pillow():
  return package("PIL")[1].replace("PIL", "Pillow")


def row(what, errors, tolerance, *, other=None, precision="float32", note=""):
  return compared(
    "images",
    what,
    other or pillow(),
    precision,
    errors,
    tolerance,
    note=note,
  )


def apart(ours, theirs):
  """The largest difference, in grey levels."""
  return error(ours, theirs, scale=1.0)
