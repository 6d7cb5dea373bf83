"""Between arrays of this host and arrays of the whole mesh."""

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np


def to_host(x: jax.Array | np.ndarray) -> np.ndarray:
  """All rows of an array as NumPy.

  A collective operation where other processes hold some of the rows.

  Args:
    x: array on any devices, or already NumPy.
  Returns:
    The same values and shape, on every process.
  """
  if getattr(x, "is_fully_addressable", True):
    return np.asarray(jax.device_get(x))
  return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def to_mesh(x: np.ndarray, mesh: Mesh, *, split: bool) -> jax.Array:
  """An array that every process holds in full, placed on the mesh.

  Args:
    x: the same values on every process.
    mesh: all devices.
    split: divide the first axis over the mesh; otherwise replicate.
  Returns:
    The global array. A callback hands out the shards, without the comparison
    between processes that `jax.device_put` would make.
  """
  spec = PartitionSpec(mesh.axis_names) if split else PartitionSpec()
  sharding = NamedSharding(mesh, spec)
  return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])
