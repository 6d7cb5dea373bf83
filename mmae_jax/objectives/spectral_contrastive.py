"""Spectral contrastive learning."""

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.information import checks, spectra, traces
from mmae_jax.objectives.networks import head
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective

_PROJECTOR = {
  "widths": (8192, 8192, 8192),
  "hidden_bias": True,
  "last_bias": True,
  "last_norm": "affine",
}


def spectral_contrastive_loss(z1, z2, *, squared_radius=1.0):
  """Spectral contrastive loss.

      -2/r mean_i <z1_i, z2_i>
        + 1/r sum_{i != j} <z1_i, z2_j>^2 / (batch (batch - 1)),
      r = squared_radius;   rows longer than sqrt(r) are shortened to it

  The constant that would make it a factorisation error is left out, so the
  least value is negative. The squares are summed on the smaller of the sides
  [batch, batch] and [dim, dim].

  Args:
    z1, z2: projections of the two views, [batch, dim], not normalised; the
      gradient goes through both. That of a shortened row has no part along
      the row.
    squared_radius: r, called mu, positive.
  Returns:
    (loss, parts): the scalar without a unit, at least float32, and its two
    summands, `attraction` and `repulsion`.
  Raises:
    ValueError: shapes differ, not floating-point matrices, fewer than two
      rows, or squared_radius is not positive.
  Source:
    HaoChen et al. 2021, https://arxiv.org/abs/2106.04156, with the clipping of
    the authors' program. That program takes negatives from one GPU's share of
    the batch; here they are all other images of it.
    `information.bounds.spectral_loss` is the form with sums.
  """
  checks.check_positive("squared_radius", squared_radius)
  checks.check_same_shape(z1=z1, z2=z2)
  checks.check_rows("z1", z1)
  z1, z2 = _clipped(z1, squared_radius), _clipped(z2, squared_radius)
  batch = z1.shape[0]
  attraction = -2 / squared_radius * jnp.mean(jnp.sum(z1 * z2, axis=1))
  squares = traces.off_diagonal_squares(z1.T, z2.T)
  repulsion = squares / (squared_radius * batch * (batch - 1))
  return attraction + repulsion, {
    "attraction": attraction,
    "repulsion": repulsion,
  }


def _clipped(z, squared_radius):
  """Rows of length sqrt(squared_radius) at most."""
  z = spectra.widen(z)
  squared = jnp.sum(jax.lax.stop_gradient(z) ** 2, axis=1, keepdims=True)
  on_sphere = squared_radius**0.5 * information.normalise_rows(z)
  return jnp.where(squared < squared_radius, z, on_sphere)


def make(encoder, run, *, squared_radius=1.0, projector=None) -> Objective:
  """Spectral contrastive learning as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    squared_radius: as in `spectral_contrastive_loss`.
    projector: keywords of `heads.MLP` that differ from the ImageNet recipe's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """

  def criterion(students, targets, step):
    del targets, step
    return spectral_contrastive_loss(*students, squared_radius=squared_radius)

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, _PROJECTOR, projector),
  )
