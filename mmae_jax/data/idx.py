"""MNIST-style IDX files to a folder of PNGs, `train/<class>/` and `test/…`."""

import gzip
import os
import pathlib
import zlib

import numpy as np

from mmae_jax import types
from mmae_jax.data import images

_SPLITS = {"train": "train", "test": "t10k"}
_UINT8 = 0x08
_GZIP = b"\x1f\x8b"


def convert(folder: os.PathLike, out: os.PathLike) -> dict[str, int]:
  """Writes every image of the IDX files as a PNG.

  Running it again writes the same files, so a killed conversion is repeated.

  Args:
    folder: holds {train,t10k}-images-idx3-ubyte and
      {train,t10k}-labels-idx1-ubyte, each perhaps with .gz; the name "test" is
      taken for "t10k".
    out: new root; `--config.data.folder` reads it.
  Returns:
    {"train": images, "test": images}.
  Raises:
    UsageError: a file is missing or is not what it should be.
  """
  folder, out = pathlib.Path(folder), pathlib.Path(out)
  if not folder.is_dir():
    raise types.UsageError(f"--idx={folder}: no such folder")
  pairs = {}
  for split, prefix in _SPLITS.items():
    pixels = read(_find(folder, split, prefix, "images-idx3-ubyte"), 3)
    labels = read(_find(folder, split, prefix, "labels-idx1-ubyte"), 1)
    if len(pixels) != len(labels):
      raise types.UsageError(
        f"--idx={folder}: {split} has {len(pixels)} images and {len(labels)}"
        " labels"
      )
    pairs[split] = pixels, labels
  highest = max(int(labels.max(initial=0)) for _, labels in pairs.values())
  digits = len(str(highest))  # 03 sorts before 12, 3 would not
  try:
    for split, (pixels, labels) in pairs.items():
      for label in np.unique(labels):
        (out / split / f"{label:0{digits}d}").mkdir(parents=True, exist_ok=True)
      for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = out / split / f"{label:0{digits}d}" / f"{i:06d}.png"
        path.write_bytes(images.encode_png(image))
  except OSError as error:
    raise types.UsageError(
      f"--out={out}: cannot write there ({error.strerror})"
    ) from None
  return {split: len(labels) for split, (_, labels) in pairs.items()}


def read(path: pathlib.Path, dims: int) -> np.ndarray:
  """One IDX file of bytes, gzipped or not.

  Args:
    path: the file.
    dims: the number of dimensions that it must have.
  Returns:
    uint8 array of the shape that stands in the file's head.
  Raises:
    UsageError: another type or number of dimensions, or cut off.
  """
  data = path.read_bytes()
  try:
    data = gzip.decompress(data) if data[:2] == _GZIP else data
  except (EOFError, OSError, zlib.error) as error:
    raise types.UsageError(f"--idx: {path} is damaged ({error})") from None
  head = 4 + 4 * dims
  if len(data) < head or data[:4] != bytes((0, 0, _UINT8, dims)):
    raise types.UsageError(
      f"--idx: {path} is not an IDX file of bytes with {dims} dimensions"
    )
  shape = np.frombuffer(data, ">u4", dims, 4).astype(int)
  if len(data) - head != shape.prod():
    raise types.UsageError(
      f"--idx: {path} should hold {list(shape)} bytes, but holds"
      f" {len(data) - head}"
    )
  return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _find(folder, split, prefix, kind):
  for start in (prefix, split):
    for end in ("", ".gz"):
      path = folder / f"{start}-{kind}{end}"
      if path.exists():
        return path
  raise types.UsageError(f"--idx={folder}: no {prefix}-{kind} or .gz in it")
