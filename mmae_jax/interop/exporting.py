"""A network of ours to tensors of another program."""

import numpy as np

from mmae_jax.interop import layouts, names as names_lib
from mmae_jax.interop.format import Format
from mmae_jax.interop.network import Network, candidates, join, roles
from mmae_jax.models import patches
from mmae_jax.types import UsageError


def to_tensors(
  network: Network, fmt: Format
) -> tuple[dict[str, np.ndarray], list[str]]:
  """The tensors of a file of some format.

  Args:
    network: a converted one, or a run of ours.
    fmt: of the file; that from which the network came gives the same tensors
      in the same order.
  Returns:
    (tensors by name, without the file's prefix; what was not written).
  Raises:
    UsageError: the format has no name for the encoder, or needs a teacher that
      the network has not.
  """
  origin = network.origin
  if origin and origin["format"] == fmt.name:
    return _as_they_came(network, fmt), []
  return _anew(network, fmt)


def _as_they_came(network, fmt):
  tables = dict(roles(fmt))
  tables["student"] = (*fmt.student, *fmt.teacher)  # see `_one_network`
  tensors = {}
  for name, dtype, path in network.origin["tensors"]:
    role, _, rest = path.partition("/")
    if role == "kept":
      x = network.arrays[path]
    else:
      x = _outwards(name, path, rest, tables[role], network)
    tensors[name] = x.astype(np.dtype(dtype))
  return tensors


def _outwards(name, path, rest, table, network):
  """The tensor of that name, from the array of that path."""
  inner = rest.partition("/")[2]
  for module, last in candidates(name):
    for entry in table:
      ours = names_lib.translated(entry.foreign, entry.ours, module)
      for leaf in entry.kind:
        same = ours is not None and join(ours, leaf.ours, "/") == inner
        if leaf.foreign == last and same:
          return _leaf_out(leaf, network.arrays[path])
  raise UsageError(f"{name} has no place in its format any more")


def _leaf_out(leaf, x):
  if leaf.third is not None:
    x = np.split(x, 3, axis=-1)[leaf.third]
  return leaf.outwards(x)


def _anew(network, fmt):
  arrays = _with_positions(network)
  if fmt.needs_teacher and not any(p.startswith("teacher/") for p in arrays):
    raise UsageError(
      f"--format={fmt.name}: its files have a teacher, and this network none"
    )
  has_directions = network.config.objective.name.startswith("dino")
  tensors, covered = {}, set()
  for role, table in roles(fmt):
    own = _roots(arrays, role)
    modules = _roots(arrays, "student")
    layers = dict.fromkeys(
      root for path in own for root in (path.rpartition("/")[0], path)
    )
    for layer in layers:
      written = set()  # "whole", or which thirds of it
      for entry in table:
        name = names_lib.translated(entry.ours, entry.foreign, layer)
        if name is None or not _holds(entry.where, modules):
          continue
        third = entry.kind[0].third
        # SwAV's files hold vectors, DINO's networks directions of any length.
        is_other = entry.kind == layouts.PROTOTYPES and has_directions
        if is_other or (written and (third is None or third in written)):
          continue
        if _write_layer(role, layer, name, entry, arrays, tensors, covered):
          written.add("whole" if third is None else third)
  if not any(p.startswith("student/params/encoder/") for p in covered):
    raise UsageError(
      f"--format={fmt.name}: it has no names for this encoder"
      f" ({network.config.encoder.name})"
    )
  for name, like, value in fmt.fill:
    if name not in tensors and like in tensors:
      rows = tensors[like].shape[0]
      tensors[name] = np.full(rows, value, tensors[like].dtype)
      count = name.rpartition(".")[0] + ".num_batches_tracked"
      tensors[count] = np.zeros((), np.int64)
  left = [
    p.removeprefix("student/").removeprefix("params/").removeprefix("kept/")
    for p in arrays
    if p not in covered
    and not p.endswith(("/num_batches_tracked", "coder/pos_embed"))
  ]
  return tensors, left


def _roots(arrays, role):
  """Paths of a role's arrays without role and collection."""
  return [
    path.removeprefix(f"{role}/").partition("/")[2]
    for path in arrays
    if path.startswith(f"{role}/")
  ]


def _holds(conditions, roots):
  """Whether modules are there, or are not ("!")."""
  return all(
    condition.startswith("!")
    != any(
      path == condition.lstrip("!")
      or path.startswith(condition.lstrip("!") + "/")
      for path in roots
    )
    for condition in conditions
  )


def _write_layer(role, layer, name, entry, arrays, tensors, covered):
  """Adds the tensors of a layer; whether there are any."""
  found = {}
  for leaf in entry.kind:
    path = f"{role}/{leaf.collection}/{join(layer, leaf.ours, '/')}"
    if path in arrays:
      found[leaf.foreign] = _leaf_out(leaf, arrays[path])
      covered.add(path)
  if not found:
    return False
  for leaf in entry.kind:
    if leaf.foreign not in found and leaf.default is not None:
      found[leaf.foreign] = leaf.default(found)
  for leaf in entry.kind:
    if leaf.foreign in found:
      tensors[join(name, leaf.foreign, ".")] = found[leaf.foreign]
  return True


def _with_positions(network):
  """The arrays with fixed positions as parameters, as others store them."""
  arrays = dict(network.arrays)
  config = network.config
  if config.encoder.name != "vit":
    return arrays
  grid = config.views["global"].size // config.encoder.patch_size
  for role in ("student", "teacher"):
    for part in ("encoder", "decoder"):
      token = (
        f"{role}/params/{part}/{'cls' if part == 'encoder' else 'mask'}_token"
      )
      path = f"{role}/params/{part}/pos_embed"
      if token not in arrays or path in arrays:
        continue
      kept = arrays.pop(f"{role}/kept/{part}/pos_embed", None)
      table = patches.position_table(arrays[token].shape[-1], grid)
      arrays[path] = (
        table[None].astype(arrays[token].dtype) if kept is None else kept
      )
  return arrays
