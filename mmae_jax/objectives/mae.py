"""MAE: masked autoencoding, and the function that U-MAE and M-MAE share."""

import jax
import jax.numpy as jnp

from mmae_jax.models import mae as models_mae
from mmae_jax.objectives import parts
from mmae_jax.types import Objective, Output, UsageError


def mae_loss(errors):
  """Reconstruction loss of MAE: the mean over the images of the batch.

      mean_n errors_n,  errors_n = mean over n's removed patches of
      ||prediction - target||^2 / patch_dim

  Args:
    errors: [batch], `models.mae.reconstruction_errors`; every image has the
      same number of removed patches, so this is the mean over all of them.
  Returns:
    Scalar, at least float32, in squared units of the (normalised) pixels.
  Source:
    He et al. 2022, https://arxiv.org/abs/2111.06377.
  """
  return jnp.mean(errors)


def make(encoder, run, **masking) -> Objective:
  """MAE as an objective.

  Args:
    encoder: a ViT.
    run: facts of the run.
    **masking: hyperparameters of `masked_autoencoding`.
  Returns:
    The Objective.
  Raises:
    ValueError: as `masked_autoencoding`.
  """

  def criterion(errors, features):
    del features
    return mae_loss(errors), {}

  return masked_autoencoding(encoder, run, criterion, **masking)


def masked_autoencoding(
  encoder,
  run,
  criterion,
  *,
  mask_ratio=0.75,
  normalise_patches=True,
  decoder_width=512,
  decoder_depth=8,
  decoder_heads=16,
  decoder_norm_epsilon=None,
  normalise_twice=True,
) -> Objective:
  """The masked autoencoder with a criterion on the whole batch.

  Args:
    encoder: a ViT.
    run: facts of the run.
    criterion: (errors [batch], features [batch, dim]) -> (loss, metrics).
      The features are the class tokens of the visible patches, of the whole
      batch also where the forward pass is done in micro-batches.
    mask_ratio: share of the patches that is removed.
    normalise_patches: every target patch is brought to zero mean and unit
      (unbiased) variance.
    decoder_width, decoder_depth, decoder_heads: of the light decoder.
    decoder_norm_epsilon: of its LayerNorms; None is the encoder's.
    normalise_twice: the feature is norm(norm(x)), the final LayerNorm applied
      a second time with the same parameters, as the authors' programs of
      U-MAE and M-MAE do. At initialisation both are equal.
  Returns:
    The Objective; it needs one global view.
  Raises:
    UsageError: an encoder that has no patches.
    ValueError: a mask ratio that keeps or removes everything, a decoder that
      cannot be built, or a value that the criterion refuses.
  """
  if not hasattr(encoder, "num_patches"):
    raise UsageError(
      f"--config.encoder.name: a {type(encoder).__name__} has no patches to"
      " mask; a masked method needs --config.encoder.name=vit"
    )
  sizes = {
    "decoder_width": decoder_width,
    "decoder_depth": decoder_depth,
    "decoder_heads": decoder_heads,
  }
  for name, value in sizes.items():
    if value < 1:
      raise ValueError(f"{name} must be positive, got {value}")
  if decoder_width % decoder_heads or decoder_width % 4:
    raise ValueError(
      f"decoder_heads={decoder_heads} and 4 must divide decoder_width"
      f"={decoder_width}"
    )
  network = models_mae.MaskedAutoencoder(
    encoder=encoder,
    **sizes,
    decoder_norm_epsilon=decoder_norm_epsilon,
  )
  num_patches = encoder.num_patches
  models_mae.num_kept(num_patches, mask_ratio)
  # Traced once here: a criterion then refuses bad values before anything is
  # compiled.
  jax.eval_shape(
    criterion,
    jax.ShapeDtypeStruct((run.batch_size,), jnp.float32),
    jax.ShapeDtypeStruct((run.batch_size, encoder.feature_dim), jnp.float32),
  )

  def draw(key, views):
    """One number per patch; the smallest are kept."""
    keys = parts.image_keys(key, views["seed"])
    return jax.vmap(lambda k: jax.random.uniform(k, (num_patches,)))(keys)

  def forward(params, images, noise):
    return network.apply(
      {"params": params}, images, noise, mask_ratio=mask_ratio
    )

  def again(params, token):
    return encoder.apply(
      {"params": params["encoder"]}, token, method="normalise"
    )

  def feature(params, latent):
    token = latent[:, 0]
    return again(params, token) if normalise_twice else token

  def init(key, views):
    variables = network.init(
      key, views["global"][:1, 0], draw(key, views)[:1], mask_ratio=mask_ratio
    )
    return variables["params"], {}, {}

  def loss(key, params, state, views):
    def per_image(part):
      images, noise = part
      prediction, mask, latent = forward(params, images, noise)
      errors = models_mae.reconstruction_errors(
        prediction,
        images,
        mask,
        patch_size=encoder.patch_size,
        normalise_patches=normalise_patches,
      )
      return errors, feature(params, latent)

    errors, features = parts.apply(
      per_image,
      (views["global"][:, 0], draw(key, views)),
      microbatches=run.microbatches,
    )
    total, metrics = criterion(errors, features)
    metrics = {"reconstruction": jnp.mean(errors), **metrics}
    return total, Output(metrics, features, state.model_state, state.carry)

  def branches(key, params, state, views):
    """Two masks; and the first one's token under the other number of norms."""
    del state
    images = views["global"][:, 0]
    first, second = (
      forward(params, images, draw(k, views))[2] for k in jax.random.split(key)
    )
    once = first[:, 0]
    other = (
      {"once": once} if normalise_twice else {"twice": again(params, once)}
    )
    return {
      "first_mask": feature(params, first),
      "second_mask": feature(params, second),
      **other,
    }

  def reconstruct(key, params, state, views):
    """Visible pixels, and the prediction in the place of the removed ones."""
    del state
    images = views["global"][:, 0]
    p = encoder.patch_size
    prediction, mask, _ = forward(params, images, draw(key, views))
    patches = models_mae.patchify(images, p)
    if normalise_patches:
      # The network predicts normalised patches: the true mean and deviation
      # of each are lent to it, for the picture only.
      mean = jnp.mean(patches, axis=-1, keepdims=True)
      var = jnp.var(patches, axis=-1, keepdims=True, ddof=1)
      prediction = prediction * jnp.sqrt(var + 1e-6) + mean
    mask = mask[..., None]
    return {
      "masked": models_mae.unpatchify(patches * (1 - mask), p),
      "reconstructed": models_mae.unpatchify(
        patches * (1 - mask) + prediction * mask, p
      ),
    }

  return Objective(
    init=init, loss=loss, branches=branches, reconstruct=reconstruct
  )
