"""LARS and SGD in the order of the reference programs, as plain optax chains.

Learning rates are positive; their link also turns the step downhill. Four
things are called LARS:

    SimCLR                       rate_inside_momentum=True
    BYOL, MoCo v3, Barlow, MAE   the defaults
    apex LARC (SwAV)             larc=True, decay and adapt=every_tensor
    solo-learn                   larc=True, larc_clip=True, trust=0.02
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Mask = Any | Callable[[Any], Any]

# Of apex: keeps the ratio finite.
_EPSILON = 1e-8


def is_matrix(params: Any) -> Any:
  """Which tensors decay and are adapted: all but biases, scales and vectors.

  Args:
    params: a tree of arrays.
  Returns:
    The tree of booleans; False for every tensor of at most one dimension and
    for every tensor called `bias` or `scale`, since a Flax bias may have more
    dimensions than PyTorch's. Class and mask tokens, [1, 1, width], are
    matrices.
  """

  def decide(path, leaf):
    name = str(getattr(path[-1], "key", "")) if path else ""
    return jnp.ndim(leaf) > 1 and name not in ("bias", "scale")

  return jax.tree_util.tree_map_with_path(decide, params)


def every_tensor(params: Any) -> Any:
  """The mask that leaves nothing out.

  Args:
    params: a tree of arrays.
  Returns:
    The tree of booleans, all True.
  """
  return jax.tree.map(lambda _: True, params)


def lars(
  learning_rate: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  trust: float = 0.001,
  weight_decay: float = 0.0,
  decay: Mask = is_matrix,
  adapt: Mask = is_matrix,
  rate_inside_momentum: bool = False,
  larc: bool = False,
  larc_clip: bool = False,
) -> optax.GradientTransformation:
  """Layer-wise adaptive rate scaling, in the flavours of four programs.

      g <- g + weight_decay p        (tensors of `decay`)
      g <- trust ||p|| / ||g|| g     (tensors of `adapt`; 1 if a norm is 0)
      m <- momentum m + g
      p <- p - learning_rate m

  `rate_inside_momentum` ends with m <- momentum m + learning_rate g and
  p <- p - m, which differs while the rate changes. `larc` replaces the first
  two lines, for the tensors of `adapt`, by

      r <- trust ||p|| / (||g|| + weight_decay ||p|| + 1e-8)
      r <- min(r / learning_rate, 1)                     (`larc_clip` only)
      g <- r (g + weight_decay p)    (g as it is if ||p|| or ||g|| is 0)

  Args:
    learning_rate: positive number or schedule of the update's index.
    momentum: decay of the trace m.
    nesterov: look one step of the momentum ahead.
    trust: factor of the ratio of norms (Frobenius, of a whole tensor).
    weight_decay: factor of p, added before the ratio.
    decay: tree of booleans or a function of the parameters; True where p is
      added.
    adapt: the same; True where the ratio applies.
    rate_inside_momentum: as above.
    larc: as above; the ratio is of the raw gradient.
    larc_clip: with `larc`, no rate above the schedule's.
  Returns:
    The gradient transformation.
  Raises:
    ValueError: larc_clip without larc.
  Source:
    You et al. 2017 (arXiv 1708.03888), in the order of the MAE, BYOL and
    MoCo-v3 programs; the options are those of SimCLR, apex and solo-learn.
    `optax.lars` has the learning rate inside the momentum, and unless both
    masks are given it rescales biases too.
  """
  if larc_clip and not larc:
    raise ValueError("larc_clip is an option of larc, which is False")
  if larc:
    links = [
      _scale_by_larc(
        learning_rate if larc_clip else None, trust, weight_decay, decay, adapt
      )
    ]
  else:
    links = [
      optax.add_decayed_weights(weight_decay, decay),
      optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust), adapt),
    ]
  descent = [
    optax.trace(decay=momentum, nesterov=nesterov),
    optax.scale_by_learning_rate(learning_rate),
  ]
  if rate_inside_momentum:
    descent.reverse()
  return optax.chain(*links, *descent)


def _scale_by_larc(limit, trust, weight_decay, decay, adapt):
  """Decay and ratio of `larc`; `limit` is the rate to clip at, or None."""

  def init(params):
    del params
    return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

  def update(grads, state, params):
    rate = limit(state.count) if callable(limit) else limit

    def scale(g, p, decays, adapts):
      wide = jnp.promote_types(g.dtype, jnp.float32)
      factor = weight_decay if decays else 0.0
      decayed = g.astype(wide) + factor * p.astype(wide)
      if not adapts:
        return decayed.astype(g.dtype)
      norm_p, norm_g = (
        jnp.sqrt(jnp.sum(jnp.square(x.astype(wide)))) for x in (p, g)
      )
      ratio = trust * norm_p / (norm_g + factor * norm_p + _EPSILON)
      if rate is not None:
        # The rate is 0 in the first step of a warm-up.
        ratio = jnp.where(ratio < rate, ratio / rate, 1.0)
      usual = (norm_p > 0) & (norm_g > 0)
      return jnp.where(usual, ratio * decayed, g).astype(g.dtype)

    masks = (m(params) if callable(m) else m for m in (decay, adapt))
    scaled = jax.tree.map(scale, grads, params, *masks)
    count = optax.safe_increment(state.count)
    return scaled, optax.ScaleByScheduleState(count=count)

  return optax.GradientTransformation(init, update)


def sgd(
  learning_rate: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  decay: Mask = every_tensor,
) -> optax.GradientTransformation:
  """Stochastic gradient descent with momentum and decay inside the gradient.

      g <- g + weight_decay p,   m <- momentum m + g,   p <- p - lr m
      (Nesterov: p <- p - lr (g + momentum m))

  Args:
    learning_rate: positive number or schedule of the update's index.
    momentum: decay of the trace m.
    nesterov: look one step of the momentum ahead.
    weight_decay: factor of p.
    decay: as in `lars`; by default every tensor decays, as in PyTorch.
  Returns:
    The gradient transformation.
  Source:
    The convention of torch.optim.SGD without dampening.
  """
  return optax.chain(
    optax.add_decayed_weights(weight_decay, decay),
    optax.trace(decay=momentum, nesterov=nesterov),
    optax.scale_by_learning_rate(learning_rate),
  )
