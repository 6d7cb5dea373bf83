"""Pieces that several objectives share."""

import jax
import jax.numpy as jnp


def image_keys(key, seeds):
  """A PRNG key for every image.

  Randomness belongs to the image and not to its row: device order may permute
  the rows of a batch, and a draw keyed by the row would then change the loss.

  Args:
    key: the key of this purpose in this step.
    seeds: uint32 [batch], `views["seed"]`.
  Returns:
    [batch] keys.
  """
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, seeds)


def apply(f, views, *, microbatches=1):
  """Applies a per-image function to a batch in micro-batches, exactly.

  The parts run one after another and are recomputed in the backward pass, so
  memory is that of one part; the results are joined before any statistic is
  taken, so the loss and its gradient are those of the whole batch. Rows stay
  on their device: part j holds rows j, j + n, j + 2n, …

  Args:
    f: views -> pytree of arrays with the batch first: one row per image,
      never a mean.
    views: pytree of arrays with the batch first.
    microbatches: n, a divisor of the batch.
  Returns:
    f(views), in the order of the batch.
  """
  n = microbatches
  if n == 1:
    return f(views)

  def fold(x):
    return x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)

  def unfold(x):
    return x.swapaxes(0, 1).reshape(x.shape[0] * x.shape[1], *x.shape[2:])

  parts = jax.lax.map(jax.checkpoint(f), jax.tree.map(fold, views))
  return jax.tree.map(unfold, parts)


def regularised(loss, regulariser, weight):
  """loss + weight * regulariser, and the parts for the log.

  Args:
    loss: scalar.
    regulariser: scalar.
    weight: number, not negative; it acts whole on any number of devices.
  Returns:
    (total, parts): `effective_weight` is what multiplies the gradient of the
    regulariser on the global batch.
  Raises:
    ValueError: weight is negative.
  """
  if not weight >= 0:
    raise ValueError(f"weight must not be negative, got {weight!r}")
  weighted = weight * regulariser
  return loss + weighted, {
    "regulariser": regulariser,
    "weighted_regulariser": weighted,
    "effective_weight": jnp.asarray(weight, jnp.float32),
  }
