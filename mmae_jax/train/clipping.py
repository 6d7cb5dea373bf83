"""Gradients that are too long, as a whole or tensor by tensor."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax


def clipping(config: Mapping) -> optax.GradientTransformation:
  """What is done to the gradient of the whole network before anything else.

  Args:
    config: `config.optimizer`; clip_norm and clip_each are read.
  Returns:
    The gradient transformation.
  """
  clip = optax.identity()
  if config.clip_norm:
    clip = optax.clip_by_global_norm(config.clip_norm)
  if config.get("clip_each"):
    clip = optax.chain(clip, clip_each(config.clip_each))
  return clip


def clip_each(limit: float) -> optax.GradientTransformation:
  """Scales each tensor's gradient down to a norm, g min(1, limit / ||g||).

  Args:
    limit: positive; of the Frobenius norm.
  Returns:
    The gradient transformation.
  Source:
    Caron et al. 2021 (DINO, arXiv 2104.14294); the authors' program adds 1e-6
    to the norm.
  """

  def clip(g):
    norm = jnp.sqrt(jnp.sum(jnp.square(g)))
    return g * jnp.minimum(1.0, limit / (norm + 1e-6))

  return optax.stateless(lambda updates, _: jax.tree.map(clip, updates))
