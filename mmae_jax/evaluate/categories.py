"""The ER bound of class distributions, from sums over batches of images."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def sums(logits: Array, targets: Array, valid: Array) -> dict:
  """What `terms` needs of some images; sums add up over batches.

  Args:
    logits: of the classes that view 1 predicts, [rows, classes].
    targets: of the classes that view 2 has, [rows, classes].
    valid: bool [rows]; the others do not count.
  Returns:
    {"predicted", "target", "chosen": [classes], "cross_entropy", "rows"}: sums
    of probabilities, of the targets' largest classes, of CE(target, logits).
  """
  wide = jnp.promote_types(logits.dtype, jnp.float32)
  log_q, log_p = (jax.nn.log_softmax(x.astype(wide)) for x in (logits, targets))
  valid = valid[:, None].astype(wide)
  p, classes = jnp.exp(log_p), logits.shape[1]
  chosen = jax.nn.one_hot(jnp.argmax(log_p, axis=1), classes, dtype=wide)
  return {
    "predicted": jnp.sum(valid * jnp.exp(log_q), axis=0),
    "target": jnp.sum(valid * p, axis=0),
    "chosen": jnp.sum(valid * chosen, axis=0),
    "cross_entropy": -jnp.sum(valid * p * log_q),
    "rows": jnp.sum(valid),
  }


def terms(totals: Mapping[str, Any]) -> dict[str, float]:
  """The ER bound of class distributions, and how the classes are used.

  Args:
    totals: of `sums`, added up over all images.
  Returns:
    {name: number} in nats:

      er_classes_entropy          H of the mean of the predicted distributions
      er_classes_target_entropy   of the mean of the targets
      er_classes_assignment_entropy   of the targets' largest classes: how
                                  evenly images are spread over classes
      er_classes_reconstruction   mean CE(target, predicted)
      er_classes_bound            target entropy minus reconstruction
      er_classes_ceiling          log classes
  """
  rows = totals["rows"]

  def entropy(counts):
    p = np.asarray(counts, np.float64) / rows
    return float(-np.sum(p[p > 0] * np.log(p[p > 0])))

  reconstruction = float(totals["cross_entropy"] / rows)
  return {
    "er_classes_entropy": entropy(totals["predicted"]),
    "er_classes_target_entropy": entropy(totals["target"]),
    "er_classes_assignment_entropy": entropy(totals["chosen"]),
    "er_classes_reconstruction": reconstruction,
    "er_classes_bound": entropy(totals["target"]) - reconstruction,
    "er_classes_ceiling": float(np.log(len(totals["target"]))),
  }
