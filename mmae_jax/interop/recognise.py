"""Which format a file has, by the names of its tensors."""

import re
from typing import Any

import numpy as np

from mmae_jax.interop import catalogue, names as names_lib
from mmae_jax.interop.contents import File
from mmae_jax.interop.format import Format
from mmae_jax.types import UsageError

_SHOWN = 5
_MODEL_TYPES = {
  "vit": "hf_vit",
  "vit_mae": "hf_vit_mae",
  "resnet": "hf_resnet",
}


def known(name: str) -> Format:
  """The format of that name.

  Raises:
    UsageError: there is none; the message lists them.
  """
  if name not in catalogue.FORMATS:
    raise UsageError(
      f"--format={name}: unknown, one of {', '.join(catalogue.FORMATS)}"
    )
  return catalogue.FORMATS[name]


def recognise(
  file: File, *, name: str = "", source: Any = "the file"
) -> tuple[dict[str, np.ndarray], Format]:
  """The tensors with the format's own names, and the format.

  Args:
    file: of `reading.read`.
    name: of the format, where the user knows it; "" looks for signs.
    source: of the file, for messages.
  Returns:
    (tensors, format). Names of Hugging Face's newer dialects are replaced by
    the classic ones; copies under a second prefix are taken off.
  Raises:
    UsageError: an unknown name, no format or not that one; the message shows
      the first names of the file.
  """
  tensors = _classic(file.tensors)
  model_type = str((file.settings or {}).get("model_type", ""))
  if model_type and model_type not in _MODEL_TYPES:
    raise UsageError(
      f"{source}: its model_type is {model_type!r}; read are"
      f" {', '.join(_MODEL_TYPES)}"
    )
  if name:
    fmt = known(name)
  elif model_type:
    fmt = catalogue.FORMATS[_MODEL_TYPES[model_type]]
  else:
    fmt = next(
      (f for f in catalogue.FORMATS.values() if _has_signs(f, tensors)), None
    )
    if fmt is None:
      raise UsageError(
        f"{source}: of no known format; {first_names(tensors)}; known are"
        f" {', '.join(catalogue.FORMATS)}"
      )
  return _without_copies(fmt, tensors, source), fmt


def _has_signs(fmt, tensors):
  return all(any(re.match(s, n) for n in tensors) for s in fmt.signs)


def first_names(tensors: dict[str, np.ndarray]) -> str:
  """How many tensors there are, and the first of their names."""
  some = ", ".join(list(tensors)[:_SHOWN])
  return f"its {len(tensors)} tensors begin with {some}"


def _classic(tensors):
  """Names in transformers' classic dialect, if they are transformers'."""
  if not any("embeddings.patch_embeddings." in name for name in tensors):
    return tensors
  renamed = {}
  for name, x in tensors.items():
    for old, new in names_lib.HF_DIALECTS:
      name = re.sub(old, new, name)
    if name in renamed:
      raise UsageError(f"{name} is there in two dialects of its name")
    renamed[name] = x
  return renamed


def _without_copies(fmt, tensors, source):
  if not fmt.twice:
    return tensors
  first, second = fmt.twice
  originals, copies = (
    {n.removeprefix(p): x for n, x in tensors.items() if n.startswith(p)}
    for p in (first, second)
  )
  for name in originals.keys() | copies.keys():
    there = name in originals and name in copies
    if not there or not np.array_equal(originals[name], copies[name]):
      raise UsageError(
        f"{source}: {second}{name} is not the copy of {first}{name} that this"
        " format has"
      )
  return {n: x for n, x in tensors.items() if not n.startswith(second)}
