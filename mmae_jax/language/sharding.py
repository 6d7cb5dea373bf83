"""The mesh of tunix's sharding rules, and whether a model fits it."""

from flax import nnx
import jax
from jax.sharding import AxisType, Mesh

from mmae_jax.types import UsageError


def make_mesh(*, fsdp: int, tp: int) -> Mesh:
  """The mesh of tunix's sharding rules.

  Args:
    fsdp: devices over which batch and parameters are split; -1: all others.
    tp: devices over which heads, hidden layers and the vocabulary are split.
  Returns:
    A mesh with the axes "fsdp" and "tp".
  Raises:
    UsageError: the devices cannot be so divided.
  """
  devices = jax.device_count()
  if tp < 1 or devices % tp:
    raise UsageError(f"--config.mesh.tp={tp}: must divide {devices} devices")
  fsdp = devices // tp if fsdp == -1 else fsdp
  if fsdp < 1 or fsdp * tp > devices:
    raise UsageError(
      f"--config.mesh.fsdp={fsdp}: with --config.mesh.tp={tp} needs"
      f" {fsdp * tp} devices, there are {devices}"
    )
  return jax.make_mesh(
    (fsdp, tp),
    ("fsdp", "tp"),
    axis_types=(AxisType.Auto, AxisType.Auto),
    devices=jax.devices()[: fsdp * tp],
  )


def check(abstract, mesh: Mesh) -> None:
  """Raises UsageError for a parameter that the mesh does not divide."""
  state = nnx.state(abstract)
  specs = nnx.get_partition_spec(state)
  leaves = zip(
    jax.tree_util.tree_leaves_with_path(state),
    jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, jax.P)),
    strict=True,
  )
  for (path, leaf), spec in leaves:
    for size, axis in zip(leaf.shape, spec, strict=False):
      if axis is not None and size % mesh.shape[axis]:
        raise UsageError(
          f"--config.mesh.{axis}={mesh.shape[axis]}: does not divide a size of"
          f" {size} of the model's {jax.tree_util.keystr(path)}"
        )
