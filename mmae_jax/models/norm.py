"""Batch normalisation with the reference programs' conventions."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


class BatchNorm(nn.Module):
  """Batch normalisation whose statistics may be those of groups of rows.

      y = (x - mean) / sqrt(var + epsilon) [* scale + bias]

  Training divides by the biased variance of the batch and keeps running means
  with the unbiased one, as PyTorch does (Flax keeps the biased). In a jitted
  program on a sharded batch the statistics are those of the global batch;
  `group_size` gives the behaviour of programs that had them per device.

  Attributes:
    epsilon: added to the variance.
    momentum: share of the old running statistics that is kept; 0.9 here is
      momentum 0.1 of PyTorch (the default of Flax is 0.99).
    affine: learn a scale and a bias (from 0).
    use_bias: False leaves the bias of `affine` out.
    group_size: rows that share statistics; 0 is the whole batch. The running
      statistics average over the groups, where PyTorch's data-parallel
      training keeps those of the first device.
    scale_init: initialiser of the scale.
  """

  epsilon: float = 1e-5
  momentum: float = 0.9
  affine: bool = True
  use_bias: bool = True
  group_size: int = 0
  scale_init: nn.initializers.Initializer = nn.initializers.ones

  @nn.compact
  def __call__(
    self, x: Array, *, train: bool, groups: Array | None = None
  ) -> Array:
    """Normalises [batch, ..., dim] over all axes but the last.

    Args:
      x: [batch, ..., dim].
      train: use and record the statistics of this batch; else the running.
      groups: the group of each row, int [batch], every number from 0 to
        batch / group_size - 1 group_size times; None is neighbours along the
        first axis. Without group_size, and in evaluation, it is ignored.
    Returns:
      The same shape and type; computed in at least float32.
    Raises:
      ValueError: group_size does not divide the batch, groups of another
        shape.
    """
    x = jnp.asarray(x)
    dim, dtype, shape = x.shape[-1], x.dtype, x.shape
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    running_mean = self.variable(
      "batch_stats", "mean", jnp.zeros, (dim,), x.dtype
    )
    running_var = self.variable("batch_stats", "var", jnp.ones, (dim,), x.dtype)
    scale = bias = None
    if self.affine:
      scale = self.param("scale", self.scale_init, (dim,))
      if self.use_bias:
        bias = self.param("bias", nn.initializers.zeros, (dim,))

    if train:
      # Initialisation may come with a single row.
      grouping = self.group_size and not self.is_initializing()
      group = self.group_size if grouping else x.shape[0]
      share = _Share(x, group, groups if grouping else None)
      mean = share.average(share.parts)
      x = share.parts - share.spread(mean)
      var = share.average(jnp.square(x))
      if not self.is_initializing():
        count = group * math.prod(shape[1:-1])
        unbiased = var * (count / max(count - 1, 1))
        for running, new in ((running_mean, mean), (running_var, unbiased)):
          running.value = self.momentum * running.value + (
            1 - self.momentum
          ) * new.mean(axis=0)
    else:
      x, var = x - running_mean.value, running_var.value
    factor = jax.lax.rsqrt(var + self.epsilon)
    # On the small factor, not on the normalised activations: XLA's CPU
    # compiler then needs a quarter of the time for the gradient.
    if scale is not None:
      factor = factor * scale
    x = x * (share.spread(factor) if train else factor)
    if bias is not None:
      x = x + bias
    return x.reshape(shape).astype(dtype)


class _Share:
  """Which parts of a batch share statistics.

  Neighbours are one part each, [n, group, ..., dim]. With `groups` every row
  is a part and is summed where it lies: no activation moves between devices.

  Attributes:
    parts: the activations.
    member: whether a row is of a group, [batch, n]; None for neighbours.
  """

  def __init__(self, x: Array, group: int, groups: Array | None):
    batch = x.shape[0]
    if batch % group:
      raise ValueError(f"group_size {group} does not divide a batch of {batch}")
    self.member = None
    if groups is None:
      self.parts = x.reshape(batch // group, group, *x.shape[1:])
      return
    if groups.shape != (batch,):
      raise ValueError(f"groups must be [{batch}], got {list(groups.shape)}")
    member = groups[:, None] == jnp.arange(batch // group)
    self.member = member.astype(x.dtype)
    self.parts = x

  def average(self, parts: Array) -> Array:
    """Means over each group, [n, dim]."""
    means = parts.mean(axis=tuple(range(1, parts.ndim - 1)))
    if self.member is None:
      return means
    return _matmul((self.member / self.member.sum(axis=0)).T, means)

  def spread(self, values: Array) -> Array:
    """Values of the groups, [n, dim], in a shape that multiplies parts."""
    if self.member is not None:
      values = _matmul(self.member, values)
    return jnp.expand_dims(values, tuple(range(1, self.parts.ndim - 1)))


def _matmul(a, b):
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
