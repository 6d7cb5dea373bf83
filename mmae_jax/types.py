"""The shared records that every part of mmae_jax passes to another.

`Views` is a plain dictionary, `{"global": [batch, views, height, width, 3],
"local": the same in another size, where a config has small crops, "index":
int32 [batch], "seed": uint32 [batch]}`: batch first and sharded, the view
second.
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Any

import flax.struct
import jax
import optax

Array = jax.Array
PyTree = Any
Views = Mapping[str, Array]


class UsageError(ValueError):
  """A mistake of the caller: the message names the value and the flag.

  The programs in `launch/` print the message alone and exit with 1; any other
  exception is a defect of ours and keeps its traceback.
  """


@dataclasses.dataclass(frozen=True)
class RunInfo:
  """Facts that are known once the dataset is open.

  Attributes:
    total_steps: optimizer steps of the whole run.
    steps_per_epoch: whole batches in one pass over the training split.
    num_examples: images in the training split.
    batch_size: global batch.
    microbatches: parts in which the forward pass of one batch is done.
  """

  total_steps: int
  steps_per_epoch: int
  num_examples: int
  batch_size: int
  microbatches: int = 1

  def steps(self, epochs: float) -> int:
    """The one place where epochs become steps (rounded down)."""
    return math.floor(epochs * self.steps_per_epoch + 1e-9)


@flax.struct.dataclass
class TrainState:
  """Everything that a restart needs; arrays only.

  Attributes:
    step: int32 scalar, the number of updates done.
    params: `{"network": ..., "probe": ...}`, what gradients move.
    model_state: other collections of the network (running statistics).
    opt_state: the optimizer's state.
    carry: what an objective keeps that gradients do not touch (teacher, queue,
      centre, memory bank).
    key: the run's typed PRNG key; never replaced, steps fold into it.
  """

  step: Array
  params: PyTree
  model_state: PyTree
  opt_state: PyTree
  carry: PyTree
  key: Array


@flax.struct.dataclass
class Output:
  """What one forward pass leaves behind.

  Attributes:
    metrics: named scalars, already means over the global batch.
    features: [batch, dim], read by the online probe under stop-gradient.
    model_state: the collections after this pass.
    carry: the carry after this pass, before `after_update`.
  """

  metrics: dict[str, Array]
  features: Array
  model_state: PyTree
  carry: PyTree


def _unchanged(params, carry, step):
  del step
  return params, carry


@dataclasses.dataclass(frozen=True)
class Objective:
  """A self-supervised method as a record of pure functions (after optax).

  Attributes:
    init: (key, views) -> (params, model_state, carry). A teacher, which
      evaluation may read, is carry["teacher"] = {"params", "model_state"}.
    loss: (key, params, state, views) -> (scalar, Output); `params` are the
      network's, `state` the TrainState (for model_state, carry and step).
    after_update: (params, carry, step) -> (params, carry), after the optimizer.
    refresh: (key, carry) -> carry, the only work between steps.
    refresh_every: steps between two calls of `refresh`; 0 is never.
    learns_from: the first step that moves the network; the learning rate's
      schedule begins there.
    branches: (key, params, state, views) -> {name: [batch, dim]}, for the
      information plane: first the two branches of the paper, of equal shapes,
      in its order; then what else shall have its spectrum measured.
    categories: (params, state, views) -> (logits, logits), of the classes that
      view 1's branch predicts and that view 2's has, [batch, classes] both,
      temperature and centre applied; for the information plane. None where a
      method has no classes.
    reconstruct: (key, params, state, views) -> {"masked", "reconstructed"}:
      [batch, height, width, 3] in the units of the views; for the report.
    wrap_optimizer: GradientTransformation -> GradientTransformation.
    carry_sharding: {carry key: PartitionSpec}; other keys by the fsdp rule, as
      parameters.
    needs: views that must be there, {"global": 1}.
    takes: kinds of views that may be there besides, in any number.
  """

  init: Callable[..., tuple[PyTree, PyTree, PyTree]]
  loss: Callable[..., tuple[Array, Output]]
  branches: Callable[..., dict[str, Array]]
  after_update: Callable[..., tuple[PyTree, PyTree]] = _unchanged
  refresh: Callable[..., PyTree] | None = None
  refresh_every: int = 0
  learns_from: int = 0
  categories: Callable[..., tuple[Array, Array]] | None = None
  reconstruct: Callable[..., dict[str, Array]] | None = None
  wrap_optimizer: Callable[
    [optax.GradientTransformation], optax.GradientTransformation
  ] = lambda optimizer: optimizer
  carry_sharding: Mapping[str, jax.sharding.PartitionSpec] = dataclasses.field(
    default_factory=dict
  )
  needs: Mapping[str, int] = dataclasses.field(
    default_factory=lambda: {"global": 1}
  )
  takes: tuple[str, ...] = ()
