"""A network of ours with all that a file of another program had besides.

Values are moved, transposed and joined, never computed, so that what was read
is written bit for bit. What our networks have no place for is kept beside them.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict
import numpy as np

from mmae_jax.interop import layouts, names as names_lib
from mmae_jax.interop.format import Format

# Paths of a network and of what belongs to it:
#   "student/params/encoder/norm/scale", "teacher/batch_stats/...",
#   "carry/carry/queue", "student/kept/encoder/bn1/num_batches_tracked",
#   "kept/" and the name in the file, of what has no meaning here
Flat = dict[str, np.ndarray]


@dataclasses.dataclass
class Network:
  """A network, and what a file had besides.

  Attributes:
    config: ConfigDict; its objective may not be complete.
    arrays: by path, see above.
    origin: of a converted one: format, wrapper, prefixes, and for each tensor
      of the file its name, dtype and path here; None for a run of ours.
    notes: lines about what was guessed or resized.
    unplaced: names of tensors that our networks have no use for; they are kept.
  """

  config: ConfigDict
  arrays: Flat
  origin: dict[str, Any] | None = None
  notes: list[str] = dataclasses.field(default_factory=list)
  unplaced: list[str] = dataclasses.field(default_factory=list)

  def flat(self, role: str, collection: str) -> Flat:
    """The arrays of one collection of one role, by the rest of their path."""
    before = f"{role}/{collection}/"
    return {
      path.removeprefix(before): x
      for path, x in self.arrays.items()
      if path.startswith(before)
    }

  def tree(self, role: str, collection: str) -> dict:
    """The same as a nested tree."""
    return traverse_util.unflatten_dict(self.flat(role, collection), sep="/")

  def model_state(self, role: str) -> dict:
    """{"batch_stats": ...}, or {} where there are none."""
    statistics = self.tree(role, "batch_stats")
    return {"batch_stats": statistics} if statistics else {}


def roles(fmt: Format) -> tuple[tuple[str, names_lib.Table], ...]:
  """(role, table) of a format."""
  return (
    ("student", fmt.student),
    ("teacher", fmt.teacher),
    ("carry", fmt.carry),
  )


def _fits(entry, module, tensors):
  """Whether the tensors of a layer are of the entry's kind."""
  beside = entry.beside.lstrip("!")
  if beside and (beside in tensors) == entry.beside.startswith("!"):
    return False
  return all(
    (x := tensors.get(join(module, leaf.foreign, "."))) is None
    or (x.ndim == leaf.ndim and leaf.fits(x.shape))
    for leaf in entry.kind
  )


def join(module: str, leaf: str, dot: str) -> str:
  """A layer's name and its tensor's; "" is the layer's own."""
  return f"{module}{dot}{leaf}" if leaf else module


def candidates(name: str) -> tuple[tuple[str, str], ...]:
  """(layer, tensor of it) as which a name can be read."""
  module, _, leaf = name.rpartition(".")
  return ((module, leaf), (name, ""))


def find(
  name: str, table: names_lib.Table, tensors: Mapping[str, Any]
) -> tuple[layouts.Leaf, str] | None:
  """The (leaf, path here) of a tensor, or None.

  Args:
    name: of the tensor.
    table: of the format.
    tensors: all of the file, by name.
  """
  for module, last in candidates(name):
    for entry in table:
      leaf = next((x for x in entry.kind if x.foreign == last), None)
      if leaf is None:
        continue
      ours = names_lib.translated(entry.foreign, entry.ours, module)
      if ours is not None and _fits(entry, module, tensors):
        return leaf, join(ours, leaf.ours, "/")
  return None
