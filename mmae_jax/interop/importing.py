"""Tensors of another program to a network of ours."""

from collections.abc import Mapping
import math
import re
from typing import Any

from ml_collections import ConfigDict
import ml_dtypes
import numpy as np

from mmae_jax.interop import architecture, positions, recognise, shapes
from mmae_jax.interop.contents import File
from mmae_jax.interop.network import Network, find, roles
from mmae_jax.types import UsageError


def from_file(
  file: File,
  *,
  name: str = "",
  options: Mapping[str, Any] | None = None,
  source: Any = "the file",
) -> Network:
  """The network of a file.

  Args:
    file: of `reading.read`.
    name: of the format; "" recognises it.
    options: see `architecture.describe`.
    source: of the file, for messages.
  Returns:
    A Network whose encoder was checked against our own.
  Raises:
    UsageError: an unknown format, an architecture that we do not have, shapes
      that do not fit together.
  """
  options = {k: v for k, v in (options or {}).items() if v is not None}
  _check(options)
  try:
    return _from_file(file, name, options, source)
  except UsageError as e:
    message = str(e)
    told = message.startswith(("--", str(source)))
    raise UsageError(message if told else f"{source}: {message}") from e
  except (KeyError, ValueError, TypeError, AttributeError) as e:
    raise UsageError(
      f"{source}: its tensors or its config.json do not fit together:"
      f" {type(e).__name__}: {e}"
    ) from e


def _check(options):
  for key in ("heads", "decoder_heads", "image_size"):
    if (value := options.get(key, 1)) < 1:
      raise UsageError(f"--{key}={value}: must be at least 1")
  for key, least in (("mean", -math.inf), ("std", 0)):
    if not all(least < x < math.inf for x in options.get(key, (1,))):
      raise UsageError(
        f"--{key}={options[key]}: must be finite numbers above {least}"
      )


def _from_file(file, name, options, source):
  tensors, fmt = recognise.recognise(file, name=name, source=source)
  network = Network(ConfigDict(), {})
  places = _place_all(fmt, tensors, network)
  _one_network(network, places)
  if not any(p.startswith("student/params/encoder/") for p in network.arrays):
    raise UsageError(
      f"not of --format={fmt.name}: {recognise.first_names(tensors)}"
    )
  _refuse_parts(tensors, places)
  network.config = architecture.describe(
    fmt,
    network.flat("student", "params"),
    network.flat("student", "batch_stats"),
    file._replace(tensors=tensors),
    options=options,
    say=network.notes.append,
  )
  positions.fix(network, places, options, positions.precision(tensors))
  _fill_biases(network)
  shapes.check(network, source)
  if any(p.startswith("teacher/") for p in network.arrays):
    network.config.evaluation.network = fmt.evaluated
  network.unplaced = [
    n for n in tensors if not _has_use(places.get(n, f"kept/{n}"))
  ]
  lengths = network.arrays.get("student/kept/prototypes/length", np.ones(1))
  if np.any(lengths != 1):
    network.notes.append(
      "lengths of the prototypes (weight_g) are not 1: kept, not used"
    )
  if file.others:
    network.notes.append(
      f"left out, no plain tensors: {', '.join(file.others)}"
    )
  network.origin = {
    "format": fmt.name,
    "wrapper": file.wrapper,
    "wraps": file.wraps,
    "prefixes": file.prefixes,
    "settings": file.settings,
    "preprocessor": file.preprocessor,
    "tensors": [
      [n, x.dtype.name, places.get(n, f"kept/{n}")] for n, x in tensors.items()
    ],
  }
  return network


def _has_use(path):
  """Whether our network has the tensor, or makes it where it is needed."""
  made = (
    "/num_batches_tracked",
    "coder/pos_embed",
    "/length",
    "/linear_2/bias",
  )
  return "kept/" not in path or path.endswith(made)


def _refuse_parts(tensors, places):
  """Refuses what stands within the encoder and has no place in ours."""
  layers = set()
  for name, path in places.items():
    is_array = path.endswith(("_token", "pos_embed"))
    if re.match(r"\w+/\w+/(en|de)coder/", path) and not is_array:
      layers |= _layers(name)
  for name in tensors:
    if name not in places and not layers.isdisjoint(_layers(name)):
      raise UsageError(
        f"{name} is a part of the network that ours has not: another function"
        " would come out"
      )


def _layers(name):
  """The layer of a tensor, and the blocks that it is in."""
  parts = name.split(".")[:-1]
  inside = {
    ".".join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit()
  }
  return inside | {".".join(parts)} - {""}


def _place_all(fmt, tensors, network):
  """Moves what has a place; returns {name: path}."""
  places, parts = {}, {}
  for name, x in tensors.items():
    for role, table in roles(fmt):
      found = find(name, table, tensors)
      if found is None:
        continue
      leaf, path = found
      path = f"{role}/{leaf.collection}/{path}"
      places[name] = path
      value = leaf.inwards(x)
      if leaf.collection != "kept":
        value = _computing(value)
      if leaf.third is None:
        if path in network.arrays:
          raise UsageError(
            f"{name} and another tensor are both {path}: two networks in one"
            " file?"
          )
        network.arrays[path] = value
      else:
        parts.setdefault(path, {})[leaf.third] = value
      break
    else:
      network.arrays[f"kept/{name}"] = x
  for path, thirds in parts.items():
    if sorted(thirds) != [0, 1, 2]:
      raise UsageError(f"{path}: one of query, key and value is missing")
    network.arrays[path] = np.concatenate([thirds[i] for i in range(3)], -1)
  return places


def _computing(x):
  """At least float32, which holds every float16 and bfloat16."""
  narrow = x.dtype in (np.float16, ml_dtypes.bfloat16)
  return x.astype(np.float32) if narrow else x


def _one_network(network, places):
  """A file with the twin alone holds the network to evaluate."""
  if any(p.startswith("student/params/encoder/") for p in network.arrays):
    return
  moved = {
    p: "student/" + p.removeprefix("teacher/")
    for p in network.arrays
    if p.startswith("teacher/")
  }
  network.arrays = {moved.get(p, p): x for p, x in network.arrays.items()}
  for name, path in places.items():
    places[name] = moved.get(path, path)


def _fill_biases(network):
  """Attention without biases of queries, keys and values has zeros."""
  for path, kernel in list(network.arrays.items()):
    module, _, leaf = path.rpartition("/")
    bias = f"{module}/bias"
    is_qkv = leaf == "kernel" and module.endswith("/qkv")
    if is_qkv and bias not in network.arrays:
      network.arrays[bias] = np.zeros(kernel.shape[-1], kernel.dtype)
