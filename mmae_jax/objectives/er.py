"""What the objectives of the entropy and reconstruction bound share.

    I(Z1; Z2) >= H(Z2) + E log q(Z2 | Z1):   loss = reconstruction - entropy

On the sphere the terms are those of `information.er_loss`; for class
distributions the entropy is that of the mean distribution and the
reconstruction a cross-entropy.
"""

import math
import numbers

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.objectives import multi_crop

ENTROPY_VIEWS = ("global", "all")


def on_the_sphere(
  triples, *, kappa, estimator, entropy_scope, bessel_floor=None
):
  """Mean ER loss of (z, prediction, target), and its terms for the log.

  Args:
    triples: of `information.er_loss`, all [batch, dim], one a direction; the
      caller stops what shall have no gradient.
    kappa, estimator: as in `information.er_loss`.
    entropy_scope: its `scope`.
    bessel_floor: of the constant in the logged terms, which the loss has not.
  Returns:
    (scalar, terms): "er_entropy", "er_reconstruction", their difference
    "er_bound", and "er_ceiling", which it cannot exceed; all in nats.
  Raises:
    ValueError: as `information.er_loss`, bessel_floor is not positive.
  """
  count, batch = len(triples), jnp.shape(triples[0][0])[0]
  scope = _scope(batch, entropy_scope)
  loss = (
    sum(
      information.er_loss(
        *triple, kappa=kappa, estimator=estimator, scope=scope
      )
      for triple in triples
    )
    / count
  )
  reconstruction = (
    sum(
      information.vmf_reconstruction(
        prediction, target, kappa=kappa, bessel_floor=bessel_floor
      )
      for _, prediction, target in triples
    )
    / count
  )
  return loss, terms(reconstruction - loss, reconstruction, scope)


def _scope(batch, entropy_scope):
  """Images of one estimate of entropy."""
  scope = batch if entropy_scope is None else entropy_scope
  if not isinstance(scope, numbers.Integral) or scope < 1 or batch % scope:
    raise ValueError(
      f"entropy_scope must be None or divide the batch of {batch}, got"
      f" {entropy_scope!r}"
    )
  return scope


def terms(entropy, reconstruction, ceiling):
  """The named terms of a bound, for the log.

  Args:
    entropy: scalar in nats.
    reconstruction: scalar in nats.
    ceiling: number of images or classes whose logarithm the bound cannot
      exceed.
  Returns:
    {name: scalar}, without a gradient.
  """
  named = {
    "er_entropy": entropy,
    "er_reconstruction": reconstruction,
    "er_bound": entropy - reconstruction,
    "er_ceiling": jnp.asarray(math.log(ceiling)),
  }
  return jax.lax.stop_gradient(named)


def of_categories(
  reconstruction, logits, *, entropy_scope=None, entropy_views="global"
):
  """ER loss of class distributions, and its terms for the log.

      reconstruction - H,
      H = mean over views and groups of the entropy of the mean distribution

  Args:
    reconstruction: a cross-entropy, scalar in nats.
    logits: of the student, [batch, views, classes], temperature applied.
    entropy_scope: None for one mean over the batch, or groups of so many
      images, which has to divide it.
    entropy_views: "global", the first two views; or "all".
  Returns:
    (scalar, terms), as `on_the_sphere`; the ceiling is log classes.
  Raises:
    ValueError: a scope that does not divide the batch, unknown views.
  """
  batch, _, classes = jnp.shape(logits)
  scope = _scope(batch, entropy_scope)
  if entropy_views not in ENTROPY_VIEWS:
    raise ValueError(
      f"entropy_views must be one of {', '.join(ENTROPY_VIEWS)}, got"
      f" {entropy_views!r}"
    )
  if entropy_views == "global":
    logits = logits[:, : multi_crop.GLOBALS]
  groups = logits.reshape(batch // scope, scope, -1, classes)
  of_view = jax.vmap(information.categorical_entropy, in_axes=1)
  entropy = jnp.mean(jax.vmap(of_view)(groups))
  return reconstruction - entropy, terms(entropy, reconstruction, classes)
