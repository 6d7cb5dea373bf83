"""Second moments of features that arrive in chunks, devices and hosts."""

import dataclasses

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, entropy, spectra


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and centred second moment of the rows seen so far.

  The mean is kept as shift + offset. The shift is the mean of the first rows
  and never moves, so the offset is small and keeps its digits: beside a mean
  of 1e4, float32 would round away every later step of the mean below 1e-3.

  Attributes:
    count: number of rows, int32, a scalar.
    shift: [dim], a fixed point near the mean.
    offset: [dim], the mean minus the shift.
    scatter: [dim, dim], sum over rows of (z - mean)(z - mean)^T.
  """

  count: jax.Array
  shift: jax.Array
  offset: jax.Array
  scatter: jax.Array

  @property
  def mean(self) -> jax.Array:
    """Mean of the rows, [dim]."""
    return self.shift + self.offset


def empty_moments(dim, *, dtype=jnp.float32):
  """Moments of no rows.

  Args:
    dim: number of features.
    dtype: precision of the sums: float32 or float64.
  Returns:
    `Moments` of dim^2 + 2 dim numbers, all zero.
  Raises:
    ValueError: dim is not a whole number >= 1 or dtype is another.
  Source:
    The neutral element of `merge_moments`.
  """
  checks.check_count("dim", dim)
  if jnp.dtype(dtype) not in (jnp.float32, jnp.float64):
    raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
  return Moments(
    count=jnp.zeros((), jnp.int32),
    shift=jnp.zeros(dim, dtype),
    offset=jnp.zeros(dim, dtype),
    scatter=jnp.zeros((dim, dim), dtype),
  )


def update_moments(moments, z, *, mask=None):
  """Moments of the rows seen so far and one more chunk.

      count_b = B,  mean_b = sum_i z_i / B,
      scatter_b = sum_i (z_i - mean_b)(z_i - mean_b)^T,  then `merge_moments`

  Of a million features of dimension 4096 only one chunk and 4096^2 numbers
  are in memory. For use under `jax.jit` and as the body of `jax.lax.scan`; on
  a chunk sharded over its rows it is partial products and one all-reduce of
  [dim, dim], besides vectors of length dim.

  Args:
    moments: as `empty_moments` or this function returns them.
    z: features, [batch, dim]; taken as they are: `normalise_rows` first where
      the entropies of directions are wanted.
    mask: [batch] of bool, False for rows that only pad the chunk (they may
      hold anything, NaN included); None takes all rows.
  Returns:
    `Moments` in the precision of `moments`; at most 2^31 - 1 rows in all.
  Raises:
    ValueError: z is not a floating-point matrix, or its dim or the mask's
      length differs.
  Source:
    Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
    variance", https://doi.org/10.1080/00031305.1983.10483115.
  """
  checks.check_matrix("z", z)
  batch, dim = jnp.shape(z)
  if dim != moments.shift.shape[0]:
    raise ValueError(
      f"z must have the {moments.shift.shape[0]} features of moments, got"
      f" shape {jnp.shape(z)}"
    )
  if mask is None:
    present, count = 1, jnp.asarray(batch, jnp.int32)
  else:
    if jnp.shape(mask) != (batch,) or not jnp.issubdtype(
      jnp.result_type(mask), jnp.bool_
    ):
      raise ValueError(
        f"mask must be bool of shape ({batch},), got {jnp.result_type(mask)}"
        f" of shape {jnp.shape(mask)}"
      )
    present = mask[:, None]
    count = jnp.sum(mask, dtype=jnp.int32)
    z = jnp.where(present, z, 0)
  z = jnp.asarray(z, moments.scatter.dtype)
  rows = jnp.maximum(count, 1).astype(z.dtype)
  shift = jnp.where(moments.count > 0, moments.shift, jnp.sum(z, axis=0) / rows)
  # Close to the shift the differences are exact (Sterbenz), so large means
  # cost no digits in what follows.
  z = (z - shift) * present
  offset = jnp.sum(z, axis=0) / rows
  z = (z - offset) * present
  chunk = Moments(count, shift, offset, spectra.matmul(z.T, z))
  return merge_moments(moments, chunk)


def merge_moments(a, b):
  """Moments of two disjoint sets of rows.

      n = n_a + n_b,   delta = mean_b - mean_a,
      mean = mean_a + n_b / n delta,
      scatter = scatter_a + scatter_b + (n_a n_b / n) delta delta^T

  Exact up to round-off, associative and commutative up to round-off; empty
  moments are neutral. Nothing is subtracted, so nothing cancels.

  Args:
    a: `Moments` of [dim] features.
    b: `Moments` of as many features, of other rows.
  Returns:
    `Moments` of all rows.
  Raises:
    ValueError: the numbers of features differ.
  Source:
    Chan, Golub and LeVeque 1983,
    https://doi.org/10.1080/00031305.1983.10483115, the parallel form.
  """
  if a.shift.shape != b.shift.shape:
    raise ValueError(
      f"b must have the {a.shift.shape} features of a, got {b.shift.shape}"
    )
  dtype = a.scatter.dtype
  shift = jnp.where(a.count > 0, a.shift, b.shift)
  offset = jnp.where(a.count > 0, a.offset, b.offset)
  delta = jnp.where(
    (a.count > 0) & (b.count > 0), (b.shift - shift) + (b.offset - offset), 0
  )
  count = a.count + b.count
  # Shares, not products: n_a n_b leaves the range of int32.
  share = b.count.astype(dtype) / jnp.maximum(count, 1).astype(dtype)
  weight = a.count.astype(dtype) * share
  return Moments(
    count=count,
    shift=shift,
    offset=offset + share * delta,
    scatter=a.scatter + b.scatter + weight * delta[:, None] * delta[None, :],
  )


def merge_stacked_moments(stacked):
  """Moments of all rows, from one record per host.

  Each host updates moments of its own rows; afterwards all of them call

      gathered = multihost_utils.process_allgather(moments)
      moments = merge_stacked_moments(gathered)

  and hold the same record; gathering takes hosts * dim^2 numbers once. Where
  the chunks are global arrays instead, `update_moments` under `jax.jit`
  already sums over hosts and there is nothing to merge.

  Args:
    stacked: `Moments` whose arrays have a leading axis, [hosts, ...].
  Returns:
    `Moments` without that axis.
  Raises:
    ValueError: there is no leading axis.
  Source:
    `merge_moments`, from the first host to the last.
  """
  if jnp.ndim(stacked.count) != 1 or jnp.ndim(stacked.scatter) != 3:
    raise ValueError(
      "stacked must have one leading axis, got count of shape"
      f" {jnp.shape(stacked.count)} and scatter of shape"
      f" {jnp.shape(stacked.scatter)}"
    )
  first = jax.tree.map(lambda x: jnp.asarray(x[0]), stacked)
  others = jax.tree.map(lambda x: jnp.asarray(x[1:]), stacked)
  merged, _ = jax.lax.scan(
    lambda a, b: (merge_moments(a, b), None), first, others
  )
  return merged


def moments_covariance(moments, *, centre=True):
  """Second moment about the mean, or about zero, of streamed features.

      scatter / count   (+ mean mean^T uncentred)

  Args:
    moments: `Moments` of [dim] features.
    centre: subtract the mean.
  Returns:
    [dim, dim], as `covariance` of all rows at once (divisor: their number);
    zero where there are no rows.
  Source:
    C(Z, Z) of Zhang et al. 2023, https://arxiv.org/abs/2305.17326.
  """
  rows = jnp.maximum(moments.count, 1).astype(moments.scatter.dtype)
  centred = moments.scatter / rows
  if centre:
    return centred
  return centred + moments.mean[:, None] * moments.mean[None, :]


def moments_entropy(moments, *, order=1.0, centre=False):
  """Matrix entropy of the second moment of streamed features.

      H_a(C / tr C)

  Args:
    moments: `Moments`; of unit rows, if it is to be the entropy of cosines.
    order: as in `matrix_entropy`.
    centre: of the second moment about the mean.
  Returns:
    Scalar in nats, at most log min(count, dim); see `entropy_bias` for what
    few rows do to it. The effective rank is its exponential, at order 1.
  Raises:
    ValueError: order <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  covariance = moments_covariance(moments, centre=centre)
  return entropy.matrix_entropy(covariance, order=order)
