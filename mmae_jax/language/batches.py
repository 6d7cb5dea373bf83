"""Which examples a step sees: a pure function of seed and step.

A restart needs no position of an iterator.
"""

from collections.abc import Callable

import grain
import numpy as np

from mmae_jax.language.examples import Encoded
from mmae_jax.types import UsageError

Batch = dict[str, np.ndarray]


def steps_per_epoch(examples: int, batch_size: int) -> int:
  """Whole batches in one pass; the tail of a pass is dropped.

  Args:
    examples: of the training split.
    batch_size: examples of a step.
  Returns:
    examples // batch_size.
  Raises:
    UsageError: the split does not fill one batch.
  """
  if examples < batch_size:
    raise UsageError(
      f"--config.batch_size={batch_size}: there are only {examples:,} examples"
    )
  return examples // batch_size


def shuffled(
  data: Encoded, *, seed: int, batch_size: int
) -> Callable[[int], Batch]:
  """The training batches.

  Args:
    data: the examples.
    seed: of the order, a new one in every pass.
    batch_size: examples of a step.
  Returns:
    step -> {"tokens", "valid", "response"}, [batch_size, length] each.
  Raises:
    UsageError: the split does not fill one batch.
  """
  steps = steps_per_epoch(len(data.tokens), batch_size)
  order = (
    grain.MapDataset.source(np.arange(len(data.tokens)))
    .seed(seed)
    .shuffle()[: steps * batch_size]
    .repeat()
    .batch(batch_size)
  )
  return lambda step: take(data, order[step])


def take(data: Encoded, rows: np.ndarray) -> Batch:
  """Some examples as a batch."""
  return {name: array[rows] for name, array in data._asdict().items()}


def in_order(data: Encoded, *, batch_size: int) -> list[Batch]:
  """All examples in their order; the last batch is filled with empty ones.

  Args:
    data: the examples.
    batch_size: of each.
  Returns:
    Batches of equal shape; what fills the last is masked throughout.
  """
  count = len(data.tokens)
  missing = -count % batch_size
  padded = Encoded(*(np.pad(array, ((0, missing), (0, 0))) for array in data))
  starts = range(0, count + missing, batch_size)
  return [take(padded, np.arange(i, i + batch_size)) for i in starts]
