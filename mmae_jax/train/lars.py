"""LARS and SGD in the order of the reference programs, as plain optax chains.

Learning rates are positive; the last link turns them into a step downhill.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Mask = Any | Callable[[Any], Any]


def is_matrix(params: Any) -> Any:
  """Which tensors LARS decays and adapts: all but biases, scales and vectors.

  Args:
    params: a tree of arrays.
  Returns:
    The tree of booleans; False for every tensor of at most one dimension and
    for every tensor called `bias` or `scale`, since a Flax bias may have more
    dimensions than PyTorch's.
  """

  def decide(path, leaf):
    name = str(getattr(path[-1], "key", "")) if path else ""
    return jnp.ndim(leaf) > 1 and name not in ("bias", "scale")

  return jax.tree_util.tree_map_with_path(decide, params)


def lars(
  learning_rate: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  trust: float = 0.001,
  weight_decay: float = 0.0,
  mask: Mask = is_matrix,
) -> optax.GradientTransformation:
  """Layer-wise adaptive rate scaling, the learning rate outside the momentum.

      g <- g + weight_decay p        (masked tensors only)
      g <- trust ||p|| / ||g|| g     (masked tensors only; 1 if a norm is 0)
      m <- momentum m + g
      p <- p - learning_rate m

  Args:
    learning_rate: positive number or schedule of the update's index.
    momentum: decay of the trace m.
    trust: factor of the ratio of norms (Frobenius, of a whole tensor).
    weight_decay: factor of p, added before the ratio.
    mask: tree of booleans or a function of the parameters; True where decay
      and ratio apply.
  Returns:
    The gradient transformation.
  Source:
    You et al. 2017 (arXiv 1708.03888), in the order of the MAE, BYOL and
    MoCo-v3 programs. `optax.lars` differs: its learning rate is inside the
    momentum, and unless both masks are given it rescales biases too.
  """
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask),
    optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust), mask),
    optax.trace(decay=momentum),
    optax.scale_by_learning_rate(learning_rate),
  )


def sgd(
  learning_rate: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  mask: Mask = None,
) -> optax.GradientTransformation:
  """Stochastic gradient descent with momentum and decay inside the gradient.

      g <- g + weight_decay p,   m <- momentum m + g,   p <- p - lr m
      (Nesterov: p <- p - lr (g + momentum m))

  Args:
    learning_rate: positive number or schedule of the update's index.
    momentum: decay of the trace m.
    nesterov: look one step of the momentum ahead.
    weight_decay: factor of p.
    mask: as in `lars`; None decays every tensor, as PyTorch does.
  Returns:
    The gradient transformation.
  Source:
    The convention of torch.optim.SGD without dampening.
  """
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask),
    optax.trace(decay=momentum, nesterov=nesterov),
    optax.scale_by_learning_rate(learning_rate),
  )
