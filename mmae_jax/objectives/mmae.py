"""M-MAE: MAE with the log-det coding rate of the features."""

from mmae_jax import information
from mmae_jax.objectives import mae, parts
from mmae_jax.types import Objective


def mmae_loss(
  errors,
  features,
  *,
  weight=0.01 / 8,
  scale=1.0,
  centre=False,
  normaliser="feature_dim",
):
  """Loss of M-MAE.

      mean_n errors_n - weight * log det(I + (scale / dim) Z^T Z)

  Args:
    errors: [batch], per-image reconstruction errors.
    features: [batch, dim], not normalised; the whole batch.
    weight: of the coding rate; acts whole on any number of devices.
    scale: the papers' mu.
    centre, normaliser: as in `information.coding_rate`.
  Returns:
    (loss, parts): the scalar, and a dictionary of its parts; `regulariser` is
    minus the coding rate, in nats.
  Raises:
    ValueError: weight is negative, scale not positive, normaliser unknown.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281. The authors' program
    keeps the local part of the gathered gradient, so that its 0.01 on 8 GPUs
    acts as 0.01 / 8; ours acts as written.
  """
  rate = information.coding_rate(
    features, scale=scale, centre=centre, normaliser=normaliser
  )
  return parts.regularised(mae.mae_loss(errors), -rate, weight)


def make(
  encoder,
  run,
  *,
  weight=0.01 / 8,
  scale=1.0,
  centre=False,
  normaliser="feature_dim",
  **masking,
) -> Objective:
  """M-MAE as an objective.

  Args:
    encoder: a ViT.
    run: facts of the run.
    weight: of the coding rate, not negative.
    scale: the papers' mu, positive.
    centre, normaliser: as in `information.coding_rate`.
    **masking: hyperparameters of `mae.masked_autoencoding`.
  Returns:
    The Objective.
  Raises:
    ValueError: negative weight, scale not positive, unknown normaliser, or as
      `mae.make`.
  """

  def criterion(errors, features):
    return mmae_loss(
      errors,
      features,
      weight=weight,
      scale=scale,
      centre=centre,
      normaliser=normaliser,
    )

  return mae.masked_autoencoding(encoder, run, criterion, **masking)
