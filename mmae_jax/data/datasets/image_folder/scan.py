"""What lies in a folder of images: splits, classes, files and a digest."""

import collections
from collections.abc import Iterator
import dataclasses
import hashlib
import os
import re
from typing import NamedTuple

from mmae_jax import types

_EXTENSIONS = (
  *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
  *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
_TRAIN = "train"
_HELD_OUT = {
  "val": "validation",
  "valid": "validation",
  "validation": "validation",
  "test": "test",
}
UNLABELLED = -1


class File(NamedTuple):
  """One image: its path inside the folder, with slashes, and its label."""

  path: str
  label: int


@dataclasses.dataclass(frozen=True)
class Scan:
  """The content of a folder.

  Attributes:
    folder: absolute path.
    splits: {"train": files, "validation": …, "test": …}; files stand in the
      order of a hash of their path, so that `train[:20000]` is a fair sample.
    class_names: sorted names of the classes, None for a flat folder.
    misplaced: paths of images that lie beside the class folders.
    digest: 16 hex digits of paths, sizes, times and `holdout`.
  """

  folder: str
  splits: dict[str, list[File]]
  class_names: list[str] | None
  misplaced: list[str]
  digest: str

  @property
  def key(self) -> str:
    """A name for the prepared copy: readable, and new when anything changed."""
    name = re.sub(r"[^a-zA-Z0-9]+", "_", os.path.basename(self.folder))
    return f"{name.strip('_')[:32] or 'images'}-{self.digest}"

  @property
  def num_files(self) -> int:
    return sum(map(len, self.splits.values())) + len(self.misplaced)


def scan(folder: str, *, holdout: float, flag: str) -> Scan:
  """Lists a folder of images.

  Sub-folders are classes, whatever lies deeper belongs to them. A folder that
  holds `train/` and nothing else but `val/`, `valid/`, `validation/` or `test/`
  is taken as split already; without one of those, images whose hash falls
  below `holdout` become the test split. Files that are no images by their
  extension, and hidden ones, are passed over.

  Args:
    folder: path of the folder; links are followed.
    holdout: share of the images, [0, 1).
    flag: what the user wrote to name the folder, for messages.
  Returns:
    A Scan.
  Raises:
    UsageError: no such folder, not readable, or no image in it.
  """
  root = os.path.abspath(os.path.expanduser(folder))
  if not os.path.exists(root):
    raise types.UsageError(f"{flag}={folder}: no such folder")
  if not os.path.isdir(root):
    raise types.UsageError(f"{flag}={folder}: is a file, not a folder")
  if not 0 <= holdout < 1:
    raise types.UsageError(
      f"--config.data.holdout={holdout}: is a share, 0 <= holdout < 1"
    )
  digest, others = hashlib.sha256(), collections.Counter()
  digest.update(os.fsencode(f"{root}\0{holdout!r}\0"))
  paths = []
  try:
    for path, status in sorted(_walk(root, "", frozenset())):
      extension = os.path.splitext(path)[1].lower()
      if extension not in _EXTENSIONS:
        others[extension or "no extension"] += 1
        continue
      size, time = status
      digest.update(os.fsencode(f"{path}\0{size}\0{time}\0"))
      paths.append(path)
  except OSError as error:
    raise types.UsageError(
      f"{flag}={folder}: cannot be read ({error.strerror}: {error.filename})"
    ) from None
  if not paths:
    kinds = ", ".join(f"{n} {name}" for name, n in others.most_common(5))
    raise types.UsageError(
      f"{flag}={folder}: no images in it"
      f" ({'only ' + kinds if kinds else 'it is empty'}); looked for"
      f" {' '.join(_EXTENSIONS)}"
    )
  by_split = _assign_splits(paths)
  splits, names, misplaced = _assign_labels(by_split)
  if not splits.get("train"):
    raise types.UsageError(
      f"{flag}={folder}: no training images in it, of {len(paths)} files"
    )
  if len(splits) == 1:
    splits = _hold_out(splits["train"], holdout)
  return Scan(root, splits, names, misplaced, digest.hexdigest()[:16])


def share_of(path: str) -> float:
  """A fixed pseudo-random number in [0, 1) for a path."""
  head = hashlib.sha256(os.fsencode(path)).digest()[:8]
  return int.from_bytes(head, "big") / 2**64


def _walk(
  root: str, below: str, above: frozenset
) -> Iterator[tuple[str, tuple[int, int]]]:
  """Yields (path with slashes, (bytes, modification time in ns))."""
  with os.scandir(os.path.join(root, below)) as entries:
    for entry in entries:
      if entry.name.startswith("."):
        continue
      path = f"{below}/{entry.name}" if below else entry.name
      try:
        status = entry.stat()
      except FileNotFoundError:  # a dangling link
        continue
      if entry.is_dir():
        here = (status.st_dev, status.st_ino)
        if here not in above:  # a link to a folder above would never end
          yield from _walk(root, path, above | {here})
      else:
        yield path, (status.st_size, status.st_mtime_ns)


def _assign_splits(paths: list[str]) -> dict[str, list[str]]:
  """{split: paths}; paths keep their full form."""
  tops = {path.partition("/")[0] for path in paths if "/" in path}
  flat = any("/" not in path for path in paths)
  if _TRAIN not in tops or flat or tops - {_TRAIN} - _HELD_OUT.keys():
    return {"": paths}
  by_split = collections.defaultdict(list)
  for path in paths:
    top = path.partition("/")[0]
    by_split[_HELD_OUT.get(top, _TRAIN)].append(path)
  return dict(by_split)


def _assign_labels(by_split):
  """Returns ({split: files}, class names or None, misplaced paths)."""

  def class_of(split, path):
    inside = path.partition("/")[2] if split else path
    return inside.partition("/")[0] if "/" in inside else None

  train = "" if "" in by_split else _TRAIN
  classes = {
    split: {class_of(split, path) for path in paths} - {None}
    for split, paths in by_split.items()
  }
  if not classes[train]:
    everything = {
      split or _TRAIN: _ordered(File(path, UNLABELLED) for path in paths)
      for split, paths in by_split.items()
    }
    return everything, None, []
  names = sorted(set().union(*classes.values()))
  numbers = {name: i for i, name in enumerate(names)}
  splits, misplaced = {}, []
  for split, paths in by_split.items():
    if not classes[split]:
      # ImageNet's test/: images without labels beside classes; evaluation has
      # no use for them.
      continue
    files = []
    for path in paths:
      name = class_of(split, path)
      if name is None:
        misplaced.append(path)
      else:
        files.append(File(path, numbers[name]))
    splits[split or _TRAIN] = _ordered(files)
  return splits, names, misplaced


def _ordered(files) -> list[File]:
  return sorted(files, key=lambda file: (share_of(file.path), file.path))


def _hold_out(files: list[File], holdout: float) -> dict[str, list[File]]:
  # The salt keeps the held-out images from being the first in the order.
  chosen = {f for f in files if share_of(f"holdout/{f.path}") < holdout}
  if not chosen or len(chosen) == len(files):
    return {"train": files}
  return {
    "train": [file for file in files if file not in chosen],
    "test": [file for file in files if file in chosen],
  }
