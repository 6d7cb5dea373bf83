"""What launch/convert.py does: from one format to another."""

from collections.abc import Callable, Mapping
import pathlib
import re
from typing import Any

from mmae_jax.interop import (
  checkpoints,
  exporting,
  hugging_face,
  importing,
  reading,
  recognise,
  writing,
)
from mmae_jax.interop.format import Format
from mmae_jax.interop.network import Network
from mmae_jax.types import UsageError

# Further entries of a file.
_EXTRA = {"detectron2": {"__author__": "mmae_jax", "matching_heuristics": True}}


def convert(
  source: Any,
  target: Any,
  *,
  name: str = "",
  source_format: str = "",
  step: int | None = None,
  strict: bool = False,
  options: Mapping[str, Any] | None = None,
  say: Callable[[str], None] = print,
) -> Network:
  """Converts a network.

  Args:
    source: a run or checkpoint of ours, a weight file, a Hugging Face folder.
    target: a path that does not exist: a weight file by its suffix, else a
      folder, Hugging Face's for its formats and ours otherwise.
    name: format of the side that is not ours; of the target where neither is.
    source_format: of the source where neither side is ours.
    step: of a run; None is its newest sound checkpoint.
    strict: whether it is an error that something has no place on the other
      side.
    options: see `architecture.describe`.
    say: prints a line.
  Returns:
    The Network.
  Raises:
    UsageError: whatever is wrong; the target is untouched then.
  """
  source, target = pathlib.Path(source), pathlib.Path(target)
  writing.refuse_existing(target)
  if name:
    recognise.known(name)
  ours = (source / "checkpoints").is_dir() or (source / "network").is_dir()
  is_file = target.name.endswith(writing.SUFFIXES)
  if not is_file and re.fullmatch(r"\.[a-z]{2,5}\d?", target.suffix):
    raise UsageError(
      f"--to={target}: a file ends in one of {', '.join(writing.SUFFIXES)}, a"
      " folder in none"
    )
  to_folder = name in hugging_face.FORMATS and bool(source_format)
  to_theirs = is_file or ours or to_folder
  if ours:
    given = [key for key, x in (options or {}).items() if x is not None]
    if given:
      raise UsageError(
        f"--{given[0]} is for files that do not say it: {source} is ours and"
        " its config says it"
      )
    network = checkpoints.read(source, step=step)
  else:
    network = importing.from_file(
      reading.read(source),
      name=source_format or ("" if to_theirs else name),
      options=options,
      source=source,
    )
    say(f"{source}: format {network.origin['format']}")
  for line in network.notes:
    say(line)
  lost = []
  if network.unplaced:
    lost.append(f"kept beside the network: {', '.join(network.unplaced)}")
  if to_theirs:
    fmt = _target_format(name, network, is_file)
    tensors, left = exporting.to_tensors(network, fmt)
    lost = [f"without a place in {fmt.name}: {', '.join(left)}"] if left else []
    for line in _unsaid(network, fmt):
      say(line)
  for line in lost:
    say(line)
  if strict and lost:
    raise UsageError(f"--strict: {'; '.join(lost)}")
  if to_theirs:
    _write(target, tensors, fmt, network, is_file)
    say(f"{target}: {len(tensors)} tensors, format {fmt.name}")
  else:
    checkpoints.write(target, network)
    say(f"{target}: read it with load_encoder or --config.init_from={target}")
  return network


def _unsaid(network, fmt):
  """What a file of that format will not say, and its readers would guess."""
  encoder, objective = network.config.encoder, network.config.objective
  same = network.origin and network.origin["format"] == fmt.name
  if same:
    return
  if encoder.name == "resnet":
    if encoder.stem == "small_padded" and fmt.name != "solo_learn":
      yield "the stem pads two zeros, which no file says"
    return
  epsilon = encoder.get("layer_norm_epsilon", 1e-6)
  if epsilon != 1e-6 and fmt.name not in hugging_face.FORMATS:
    yield f"LayerNorm has the epsilon {epsilon}, which the file does not say"
  other = objective.get("decoder_norm_epsilon")
  if other not in (None, epsilon) and fmt.name != "solo_learn":
    yield f"the decoder's LayerNorm has the epsilon {other}: it is not written"
  usual = dict(fmt.heads).get(encoder.width)
  if fmt.name not in hugging_face.FORMATS and usual != encoder.heads:
    yield f"it has {encoder.heads} attention heads, which the file does not say"


def _target_format(name, network, is_file) -> Format:
  if not name and network.origin:
    name = network.origin["format"]
  if not name:
    raise UsageError("--format is missing: that of the file to write")
  fmt = recognise.known(name)
  if not is_file and name not in hugging_face.FORMATS:
    raise UsageError(
      f"--format={name}: a file, so --to must end in one of"
      f" {', '.join(writing.SUFFIXES)}"
    )
  return fmt


def _write(target, tensors, fmt, network, is_file):
  origin = network.origin or {}
  same = origin.get("format") == fmt.name
  if fmt.twice:
    first, second = fmt.twice
    tensors = tensors | {
      second + n.removeprefix(first): x
      for n, x in tensors.items()
      if n.startswith(first)
    }
  if not is_file:
    given = origin if same else {}
    writing.write_folder(
      target,
      tensors,
      **hugging_face.documents(
        fmt.name,
        network.config,
        tensors,
        settings=given.get("settings"),
        preprocessor=given.get("preprocessor"),
      ),
    )
    return
  wrapper = fmt.wrapper
  if same and origin["wraps"]:
    wrapper = origin["wrapper"]
  is_two = wrapper == "student"
  if target.suffix == ".safetensors" and not is_two:
    wrapper = ""
  prefixes = origin["prefixes"] if same else _prefixes(fmt, tensors)
  dictionaries = {}
  for name, x in tensors.items():
    part, colon, rest = name.rpartition(":")
    key = part if colon else wrapper
    prefix = prefixes.get(part, "")
    dictionaries.setdefault("" if key == "/" else key, {})[prefix + rest] = x
  writing.write(target, dictionaries, extra=_EXTRA.get(fmt.name))


def _prefixes(fmt, tensors):
  """Of a new file: DINO's teacher has one if it has BatchNorm."""
  prefixes = {"": fmt.prefix, "student": fmt.prefix}
  if any(n.startswith("teacher:") and "running" in n for n in tensors):
    prefixes["teacher"] = fmt.prefix
  return prefixes
