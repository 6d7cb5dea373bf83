"""Batch normalisation with the reference programs' conventions."""

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
    affine: learn a scale (from 1) and a bias (from 0).
    group_size: rows that share statistics, neighbours along the first axis;
      0 is the whole batch. The running statistics average over the groups,
      where PyTorch's data-parallel training keeps those of the first device.
  """

  epsilon: float = 1e-5
  momentum: float = 0.9
  affine: bool = True
  group_size: int = 0

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    """Normalises [batch, ..., dim] over all axes but the last.

    Args:
      x: [batch, ..., dim].
      train: use and record the statistics of this batch; else the running.
    Returns:
      The same shape and type; computed in at least float32.
    Raises:
      ValueError: group_size does not divide the batch.
    """
    x = jnp.asarray(x)
    dim, dtype = x.shape[-1], x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    running_mean = self.variable(
      "batch_stats", "mean", jnp.zeros, (dim,), x.dtype
    )
    running_var = self.variable("batch_stats", "var", jnp.ones, (dim,), x.dtype)
    if train:
      # Initialisation may come with a single row.
      grouping = self.group_size and not self.is_initializing()
      group = self.group_size if grouping else x.shape[0]
      if x.shape[0] % group:
        raise ValueError(
          f"group_size {group} does not divide a batch of {x.shape[0]}"
        )
      grouped = x.reshape(x.shape[0] // group, -1, dim)
      mean = grouped.mean(axis=1, keepdims=True)
      var = grouped.var(axis=1, keepdims=True)
      if not self.is_initializing():
        count = grouped.shape[1]
        unbiased = var * (count / max(count - 1, 1))
        keep = self.momentum
        running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(
          axis=(0, 1)
        )
        running_var.value = keep * running_var.value + (
          1 - keep
        ) * unbiased.mean(axis=(0, 1))
      y = (grouped - mean) * jax.lax.rsqrt(var + self.epsilon)
      y = y.reshape(x.shape)
    else:
      y = (x - running_mean.value) * jax.lax.rsqrt(
        running_var.value + self.epsilon
      )
    if self.affine:
      y = y * self.param("scale", nn.initializers.ones, (dim,))
      y = y + self.param("bias", nn.initializers.zeros, (dim,))
    return y.astype(dtype)
