"""Mesh, the fsdp rule, and a TrainState that is born sharded."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import numpy as np

from mmae_jax.types import TrainState, UsageError

# Leaves with fewer entries are replicated: splitting them saves nothing.
_FSDP_MIN_SIZE = 2**16
BATCH = P(("data", "fsdp"))


def make_mesh(*, data=-1, fsdp=1, devices=None):
  """The mesh ("data", "fsdp"); a batch is split over both axes.

  Args:
    data: devices along "data"; -1 takes what is left.
    fsdp: devices over which large parameters are split.
    devices: the devices to use; all of them by default.
  Returns:
    A jax.sharding.Mesh.
  Raises:
    UsageError: the product is not the number of devices.
  """
  count = len(devices) if devices is not None else jax.device_count()
  if fsdp < 1 or (data != -1 and data < 1):
    raise UsageError(
      f"--config.mesh.data={data} --config.mesh.fsdp={fsdp}: must be positive"
      " (data=-1 takes what is left)"
    )
  if data == -1:
    data = max(count // fsdp, 1)
  if data * fsdp != count:
    raise UsageError(
      f"--config.mesh.data={data} --config.mesh.fsdp={fsdp}: {data} * {fsdp} is"
      f" not the number of devices, {count}"
    )
  return jax.make_mesh(
    (data, fsdp),
    ("data", "fsdp"),
    axis_types=(AxisType.Auto, AxisType.Auto),
    devices=devices,
  )


def check_batch(batch_size, microbatches, mesh):
  """Raises UsageError unless every micro-batch splits over the devices."""
  if batch_size % (mesh.size * microbatches):
    raise UsageError(
      f"--config.batch_size={batch_size}: not divisible by {mesh.size} devices"
      f" times --config.microbatches={microbatches}"
    )


def leaf_spec(leaf, mesh):
  """Splits a large leaf along its largest divisible dimension over "fsdp"."""
  ways = mesh.shape["fsdp"]
  if ways == 1 or math.prod(leaf.shape) < _FSDP_MIN_SIZE:
    return P()
  for axis in np.argsort(leaf.shape, kind="stable")[::-1]:
    if leaf.shape[axis] % ways == 0:
      return P(*(None,) * int(axis), "fsdp")
  return P()


def state_shardings(state, mesh, carry_sharding):
  """A NamedSharding for every leaf of an (abstract) TrainState."""
  rule = lambda leaf: NamedSharding(mesh, leaf_spec(leaf, mesh))
  shardings = jax.tree.map(rule, state)
  if carry_sharding:
    carry = dict(shardings.carry)
    for name, spec in carry_sharding.items():
      carry[name] = jax.tree.map(
        lambda _, spec=spec: NamedSharding(mesh, spec), carry[name]
      )
    shardings = shardings.replace(carry=carry)
  return shardings


def _check_carry(carry, mesh, carry_sharding):
  """Refuses a mesh over which something in the carry cannot be split."""
  for name, spec in carry_sharding.items():
    for leaf in jax.tree.leaves(carry[name]):
      for size, axes in zip(leaf.shape, spec, strict=False):
        axes = axes if isinstance(axes, tuple) else (axes,)
        ways = math.prod(mesh.shape[axis] for axis in axes if axis)
        if size % ways:
          raise UsageError(
            f"--config.mesh: {ways} devices cannot split the {name} of this"
            f" method, [{', '.join(map(str, leaf.shape))}], along {size}; take"
            " a number of them that divides it"
          )


def initialise(key, objective, optimizer, views, *, num_classes=0):
  """A fresh TrainState; traced by `create_state`.

  Args:
    key: the run's typed PRNG key.
    objective: the Objective.
    optimizer: of {"network", "probe"}.
    views: what the network will see.
    num_classes: of the online probe; 0 leaves it out.
  Returns:
    The TrainState at step 0.
  """
  network_key, probe_key, run_key, loss_key = jax.random.split(key, 4)
  network, model_state, carry = objective.init(network_key, views)
  params = {"network": network, "probe": {}}
  state = TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    model_state=model_state,
    opt_state=(),
    carry=carry,
    key=run_key,
  )
  if num_classes:
    _, output = jax.eval_shape(objective.loss, loss_key, network, state, views)
    dim = output.features.shape[-1]
    params["probe"] = {
      "kernel": 0.01 * jax.random.normal(probe_key, (dim, num_classes)),
      "bias": jnp.zeros((num_classes,)),
    }
  return state.replace(params=params, opt_state=optimizer.init(params))


def create_state(key, objective, optimizer, views, mesh, *, num_classes=0):
  """A TrainState whose leaves are created where they will live.

  Args:
    key, objective, optimizer, views, num_classes: as in `initialise`; views
      may be shapes.
    mesh: of `make_mesh`.
  Returns:
    (state, shardings).
  """
  views = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(views)
  )

  def init(key):
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), views)
    return initialise(key, objective, optimizer, blank, num_classes=num_classes)

  abstract = jax.eval_shape(init, key)
  _check_carry(abstract.carry, mesh, objective.carry_sharding)
  shardings = state_shardings(abstract, mesh, objective.carry_sharding)
  return jax.jit(init, out_shardings=shardings)(key), shardings


def abstract_state(state, shardings):
  """Shapes, types and shardings of a state, for restoring a checkpoint."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    shardings,
  )
