"""Weight files of PyTorch's world, written whole or not at all."""

from collections.abc import Iterator, Mapping
import contextlib
import json
import os
import pathlib
import pickle
import shutil
from typing import Any

import ml_dtypes
import numpy as np

from mmae_jax.interop.reading import NO_TORCH
from mmae_jax.types import UsageError

_TORCH = (".pth", ".pt", ".ckpt", ".tar", ".bin")
SUFFIXES = (*_TORCH, ".safetensors", ".pkl")


def refuse_existing(target: pathlib.Path) -> None:
  """Raises UsageError where the target is there."""
  if target.exists():
    raise UsageError(f"--to={target}: exists already; choose another name")


@contextlib.contextmanager
def whole(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """A path beside the target that becomes the target when all went well.

  Args:
    target: a file or folder that does not exist.
  Yields:
    Where to write.
  Raises:
    UsageError: the target exists, or cannot be written.
  """
  target = pathlib.Path(target)
  refuse_existing(target)
  draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
  made = [folder for folder in target.parents if not folder.exists()]
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    yield draft
    _publish(draft, target)
  except UsageError:
    raise
  except Exception as e:  # each library says in its own way what failed
    reason = getattr(e, "strerror", None) or str(e).splitlines()[0]
    raise UsageError(f"--to={target}: cannot be written ({reason})") from e
  finally:
    with contextlib.suppress(OSError):
      if draft.is_dir():
        shutil.rmtree(draft)
      else:
        draft.unlink(missing_ok=True)
      for folder in made:  # one that holds the target stays
        folder.rmdir()


def _publish(draft, target):
  """Gives what was written its name, unless that has been taken meanwhile."""
  if draft.is_file():
    with contextlib.suppress(OSError):  # not every file system has links
      os.link(draft, target)
      return
  refuse_existing(target)
  os.rename(draft, target)


def contiguous(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The same arrays row by row; safetensors writes what lies in memory."""
  return {
    n: np.ascontiguousarray(x).reshape(x.shape) for n, x in tensors.items()
  }


def write(
  target: Any,
  dictionaries: Mapping[str, Mapping[str, np.ndarray]],
  *,
  extra: Mapping[str, Any] | None = None,
) -> None:
  """Writes tensors as the suffix says.

  Args:
    target: .pth, .pt, .ckpt, .pth.tar or .bin (torch.save), .safetensors, or
      .pkl (a pickle of NumPy arrays, for detectron2).
    dictionaries: {key in the file: {name: array}}; the key "" is the file.
    extra: further entries of the file.
  Raises:
    UsageError: the suffix, or torch that is missing; several dictionaries for
      a format that has one; the target exists or cannot be written.
  """
  target = pathlib.Path(target)
  dictionaries = {key: contiguous(d) for key, d in dictionaries.items()}
  with whole(target) as draft:
    if target.suffix == ".safetensors":
      if len(dictionaries) > 1:
        raise UsageError(
          f"--to={target}: a safetensors file has one dictionary of tensors,"
          f" this format {len(dictionaries)}: use .pth"
        )
      from safetensors.numpy import save_file

      (tensors,) = dictionaries.values()
      save_file(tensors, draft, metadata={"format": "pt"})
      return
    content = dict(extra or {})
    for key, tensors in dictionaries.items():
      content |= {key: tensors} if key else tensors
    if target.suffix == ".pkl":
      draft.write_bytes(pickle.dumps(content))
    elif target.suffix in _TORCH:
      _save_torch(draft, content)
    else:
      raise UsageError(
        f"--to={target}: the name must end in one of {', '.join(SUFFIXES)}"
      )


def write_folder(
  target: Any, tensors: Mapping[str, np.ndarray], **documents: Any
) -> None:
  """Writes a Hugging Face folder.

  Args:
    target: a folder that does not exist.
    tensors: of model.safetensors.
    **documents: {name of a JSON file without .json: content}.
  Raises:
    UsageError: the target exists or cannot be written.
  """
  with whole(target) as draft:
    draft.mkdir()
    write(draft / "model.safetensors", {"": tensors})
    for name, content in documents.items():
      text = json.dumps(content, indent=2) + "\n"
      (draft / f"{name}.json").write_text(text)


def _save_torch(path, content):
  try:
    import torch
  except ImportError as e:
    raise UsageError(NO_TORCH) from e

  def tensor(x):
    if isinstance(x, Mapping):
      return {name: tensor(value) for name, value in x.items()}
    if not isinstance(x, np.ndarray):
      return x
    if x.dtype == ml_dtypes.bfloat16:
      return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())

  torch.save(tensor(content), path)
