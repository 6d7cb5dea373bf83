"""What a weight file holds: which dictionary, without which prefixes."""

from collections.abc import Mapping
import pathlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from mmae_jax.types import UsageError

_WRAPPING = ("module.", "_orig_mod.")
# Tensors of one file may share their numbers, this many times over.
_MOST_SHARING = 4


class File(NamedTuple):
  """What a weight file holds.

  Attributes:
    tensors: {name: array} in the file's order, without the prefixes that all
      names of a dictionary have; of a further dictionary "dictionary:name", of
      a tensor beside them "/:name".
    wrapper: key of the dictionary of tensors in the file, "" if it is the file;
      "student" of DINO's, which has two of them.
    prefixes: {dictionary, "" is the wrapper's: what was taken off its names}.
    others: further keys of the file, which hold no plain tensors.
    model: name of the network where the file says one, else "".
    settings: config.json of a Hugging Face folder, else {}.
    preprocessor: preprocessor_config.json of it, else {}.
    wraps: whether files of this kind can have a wrapper (torch.save's).
  """

  tensors: dict[str, np.ndarray]
  wrapper: str = ""
  prefixes: dict[str, str] | None = None
  others: tuple[str, ...] = ()
  model: str = ""
  settings: dict[str, Any] | None = None
  preprocessor: dict[str, Any] | None = None
  wraps: bool = False


def _is_tensor(x):
  return isinstance(x, np.ndarray) or hasattr(x, "untyped_storage")


def _array(name, tensor):
  """A tensor of torch as an array; an array as it is."""
  if isinstance(tensor, np.ndarray):
    return tensor
  import torch

  tensor = tensor.detach()
  if (
    tensor.layout != torch.strided
    or tensor.is_quantized
    or tensor.is_meta
    or tensor.is_complex()
  ):
    raise UsageError(f"{name} is no plain tensor of numbers: not read")
  needed = tensor.numel() * tensor.element_size()
  if needed > tensor.untyped_storage().nbytes():
    raise UsageError(
      f"refused, {name} is a tensor of {list(tensor.shape)} that has"
      f" {tensor.untyped_storage().nbytes():,} bytes"
    )
  if tensor.dtype == torch.bfloat16:
    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
  return tensor.numpy()


def _tensors(content):
  """The tensors of a dictionary; {} where it is none."""
  if not isinstance(content, Mapping):
    return {}
  return {str(n): x for n, x in content.items() if _is_tensor(x)}


def unwrapped(path: Any, content: Any) -> File:
  """The File of what was read, by the keys that wrap the tensors.

  Args:
    path: for messages.
    content: dictionaries of tensors or arrays, and other things.
  Returns:
    The File.
  Raises:
    UsageError: no dictionary of tensors, or a tensor that is not plain.
  """
  if not isinstance(content, Mapping):
    raise UsageError(f"{path}: holds no dictionary of tensors")
  wrapper = _wrapper(content)
  named = content if wrapper in ("", "student") else content[wrapper]
  if not isinstance(named, Mapping):
    raise UsageError(f"{path}: {wrapper!r} in it is no dictionary of tensors")
  dictionaries = {} if wrapper == "student" else {"": _tensors(named)}
  others = [str(n) for n in named if not _is_tensor(named[n])]
  if wrapper:
    others = [] if wrapper == "student" else [f"{wrapper}.{n}" for n in others]
    for key, value in content.items():
      inner = _tensors(value)
      if key == wrapper and wrapper != "student":
        continue
      if _is_tensor(value):
        dictionaries.setdefault("/", {})[str(key)] = value
      elif inner and len(inner) == len(value):
        dictionaries[str(key)] = inner
      else:
        others.append(str(key))
  tensors, prefixes = {}, {}
  for part, some in dictionaries.items():
    prefixes[part] = prefix = _common_prefix(some)
    before = f"{part}:" if part else ""
    tensors |= {
      before + n[len(prefix) :]: _array(f"{path}: {n}", x)
      for n, x in some.items()
    }
  return File(tensors, wrapper, prefixes, tuple(others), _model(content))


def _wrapper(content):
  if "pytorch-lightning_version" in content:
    return "state_dict"
  if "student" in content and "teacher" in content:
    return "student"
  if not all(_is_tensor(x) for x in content.values()):
    for name in ("model", "state_dict"):
      if isinstance(content.get(name), Mapping):
        return name
  return ""


def _model(content):
  """Name of the network as MAE's and DINO's arguments or `arch` have it."""
  arguments = content.get("args")
  for name in (
    content.get("arch"),
    getattr(arguments, "model", None),
    getattr(arguments, "arch", None),
  ):
    if isinstance(name, str):
      return name
  return ""


def _common_prefix(names):
  prefix = ""
  while names:
    longer = [
      prefix + w
      for w in _WRAPPING
      if all(n.startswith(prefix + w) for n in names)
    ]
    if not longer:
      break
    prefix = longer[0]
  return prefix


def check(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Refuses what is not numbers, not finite, or more than the file can hold.

  Raises:
    UsageError: names the file and the tensor.
  """
  if not tensors:
    raise UsageError(f"{path}: holds no tensors")
  size = path.stat().st_size
  declared = sum(x.nbytes for x in tensors.values())
  if declared > _MOST_SHARING * size:
    raise UsageError(
      f"{path}: refused, {size:,} bytes that stand for {declared:,}"
    )
  for name, x in tensors.items():
    is_narrow = x.dtype == ml_dtypes.bfloat16
    if not is_narrow and x.dtype.kind not in "fiub":
      raise UsageError(f"{path}: {name} is of type {x.dtype}: not read")
    if is_narrow:
      x = x.astype(np.float32)
    if x.dtype.kind == "f" and not np.all(np.isfinite(x)):
      raise UsageError(f"{path}: {name} has values that are not finite")
