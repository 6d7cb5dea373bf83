"""U-MAE: MAE with the mean squared cosine of the features."""

from mmae_jax import information
from mmae_jax.objectives import mae, parts
from mmae_jax.types import Objective


def umae_loss(errors, features, *, weight=0.01 / 8):
  """Loss of U-MAE.

      mean_n errors_n + weight * ||Z^T Z||_F^2 / batch^2

  Args:
    errors: [batch], per-image reconstruction errors.
    features: [batch, dim], not normalised; the whole batch.
    weight: of the uniformity term; acts whole on any number of devices.
  Returns:
    (loss, parts): the scalar, and a dictionary of its parts.
  Raises:
    ValueError: weight is negative.
  Source:
    Zhang, Wang and Wang 2022, https://arxiv.org/abs/2210.08344. The authors'
    program keeps the local part of the gathered gradient, so that its 0.01 on
    8 GPUs acts as 0.01 / 8; ours acts as written.
  """
  regulariser = information.mean_squared_cosine(features)
  return parts.regularised(mae.mae_loss(errors), regulariser, weight)


def make(
  encoder,
  run,
  *,
  weight=0.01 / 8,
  **masking,
) -> Objective:
  """U-MAE as an objective.

  Args:
    encoder: a ViT.
    run: facts of the run.
    weight: of the uniformity term, not negative.
    **masking: hyperparameters of `mae.masked_autoencoding`.
  Returns:
    The Objective.
  Raises:
    ValueError: negative weight, or as `mae.make`.
  """

  def criterion(errors, features):
    return umae_loss(errors, features, weight=weight)

  return mae.masked_autoencoding(encoder, run, criterion, **masking)
