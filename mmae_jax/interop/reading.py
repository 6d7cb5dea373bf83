"""Weight files of PyTorch's world, read without running what is in them.

    .safetensors   raw arrays behind a JSON header
    .pkl           detectron2's pickle, of which NumPy arrays alone are read
    a folder       Hugging Face's: config.json and one of the others
    all else       torch.save's, read with weights_only=True; of classes only
                   argparse.Namespace is allowed, which the authors' files hold

Torch is needed for the last alone.
"""

import argparse
import json
import pathlib
import pickle
import re
from typing import Any
import zipfile

import numpy as np

from mmae_jax.interop.contents import File, check, unwrapped
from mmae_jax.types import UsageError

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
NO_TORCH = (
  "reading and writing PyTorch files needs torch: pip install"
  ' "mmae_jax[torch]" (a .safetensors file does without)'
)


def read(path: Any) -> File:
  """Reads a weight file or a Hugging Face folder.

  Args:
    path: of the file or folder.
  Returns:
    The File.
  Raises:
    UsageError: nothing there, torch is missing, a damaged file, one that holds
      other classes than tensors, declares more than it has, or whose numbers
      are not finite. Nothing in it has run.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise UsageError(f"{path}: no such file")
  try:
    return _read_folder(path) if path.is_dir() else _read_file(path)
  except UsageError:
    raise
  except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
    raise UsageError(f"{path}: cannot be read: {e}") from e
  except (RecursionError, OverflowError, RuntimeError, MemoryError) as e:
    raise UsageError(f"{path}: refused: {type(e).__name__}") from e


def _read_file(path):
  file = unwrapped(path, _content(path))
  check(path, file.tensors)
  return file._replace(wraps=path.suffix not in (".safetensors", ".pkl"))


def _content(path):
  readers = {".safetensors": _read_safetensors, ".pkl": _read_pickle}
  return readers.get(path.suffix, _read_torch)(path)


def _read_folder(path):
  settings = _read_json(path / "config.json", needed=True)
  preprocessor = _read_json(path / "preprocessor_config.json")
  index = path / "model.safetensors.index.json"
  if index.is_file():
    parts = _read_json(index).get("weight_map", {})
    parts = sorted(map(str, set(parts.values())))
    for part in parts:
      if pathlib.PurePath(part).name != part:
        raise UsageError(f"{index}: names a file outside the folder: {part!r}")
  else:
    parts = [name for name in _WEIGHTS if (path / name).is_file()][:1]
  if not parts:
    raise UsageError(f"{path}: holds none of {', '.join(_WEIGHTS)}")
  tensors = {}
  for part in parts:
    tensors |= _read_file(path / part).tensors
  return File(
    tensors, "", {"": ""}, settings=settings, preprocessor=preprocessor
  )


def _read_json(path, *, needed=False):
  if not path.is_file():
    if needed:
      raise UsageError(f"{path.parent}: no {path.name} in this folder")
    return {}
  try:
    content = json.loads(path.read_text())
  except ValueError as e:
    raise UsageError(f"{path}: not JSON: {e}") from e
  if not isinstance(content, dict):
    raise UsageError(f"{path}: holds no JSON object")
  return content


def _read_safetensors(path):
  import safetensors
  from safetensors.numpy import load_file

  try:
    return load_file(path)
  except (safetensors.SafetensorError, ValueError, KeyError, OSError) as e:
    raise UsageError(f"{path}: not a sound safetensors file: {e}") from e


class _Array(np.ndarray):
  """What a pickle means by numpy.ndarray; it is not called."""

  def __new__(cls, *args, **kwargs):
    raise pickle.UnpicklingError("it makes arrays out of nothing")


def _reconstruct(kind, shape, code):
  """An array that the pickle then fills."""
  del kind, shape, code
  return np.empty(0, np.int8)


def _encode(text, encoding):
  """The bytes of an older pickle."""
  del encoding
  return text.encode("latin1")


# What makes up a NumPy array in a pickle.
_OF_ARRAYS = {
  ("numpy", "ndarray"): _Array,
  ("numpy", "dtype"): np.dtype,
  ("_codecs", "encode"): _encode,
  **{
    (f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct
    for core in ("core", "_core")
  },
}


class _ArraysOnly(pickle._Unpickler):
  """Finds no class or function but those of arrays.

  Python's own unpickler: that in C makes room for as many objects as a few
  bytes may ask for.
  """

  def find_class(self, module, name):
    if (module, name) not in _OF_ARRAYS:
      raise pickle.UnpicklingError(f"it asks for {module}.{name}")
    return _OF_ARRAYS[module, name]


def _read_pickle(path):
  try:
    with path.open("rb") as file:
      return _ArraysOnly(file, encoding="latin1").load()
  except Exception as e:  # a damaged pickle raises what it likes
    raise UsageError(
      f"{path}: refused, a pickle that is not of arrays alone: {e}"
    ) from e


def _read_torch(path):
  try:
    import torch
  except ImportError as e:
    raise UsageError(NO_TORCH) from e
  _check_archive(path)
  with torch.serialization.safe_globals([argparse.Namespace]):
    try:
      content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
      found = re.search(r"GLOBAL ([\w.]+)", str(e))
      what = f"it asks for {found[1]}" if found else str(e).splitlines()[0]
      raise UsageError(
        f"{path}: refused, a pickle with more than tensors and an"
        f" argparse.Namespace in it: {what}; save the state dict alone, or as"
        " safetensors, where the file comes from"
      ) from e
    except Exception as e:  # a damaged file raises what it likes
      reason = (str(e).splitlines() or [type(e).__name__])[0]
      raise UsageError(f"{path}: not a sound PyTorch file: {reason}") from e
  return content


def _check_archive(path):
  """Refuses a zip file with more in it than its size, or odd names."""
  if not zipfile.is_zipfile(path):
    return
  try:
    with zipfile.ZipFile(path) as archive:
      members = archive.infolist()
  except zipfile.BadZipFile as e:
    raise UsageError(f"{path}: not a sound PyTorch file: {e}") from e
  for member in members:
    parts = re.split(r"[/\\]", member.filename)
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
      raise UsageError(
        f"{path}: refused, a name in it leads elsewhere: {member.filename!r}"
      )
  declared, size = sum(m.file_size for m in members), path.stat().st_size
  if declared > size:
    raise UsageError(
      f"{path}: refused, {size:,} bytes that declare {declared:,}"
      " (torch.save does not compress)"
    )
