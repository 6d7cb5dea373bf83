"""How much arithmetic a masked autoencoder needs, from its sizes."""

from mmae_jax.models.mae import MaskedAutoencoder, num_kept


def training_flops(model: MaskedAutoencoder, *, mask_ratio: float) -> float:
  """Floating-point operations of one training step, per image.

  Products of the forward pass times three (the backward pass has two for each
  one), a multiplication and an addition counted apart; what rematerialisation
  computes again is not work done, so it does not count.

  Args:
    model: the masked autoencoder.
    mask_ratio: share of the patches that is removed.
  Returns:
    FLOPs.
  Raises:
    ValueError: nothing or everything would be kept.
  """
  encoder = model.encoder
  width, decoder_width = encoder.width, model.decoder_width
  pixels = 3 * encoder.patch_size**2
  kept = num_kept(encoder.num_patches, mask_ratio)
  some, every = 1 + kept, 1 + encoder.num_patches
  multiplications = (
    kept * pixels * width
    + encoder.depth * _block(some, width, encoder.mlp_ratio)
    + some * width * decoder_width
    + model.decoder_depth * _block(every, decoder_width, encoder.mlp_ratio)
    + encoder.num_patches * decoder_width * pixels
  )
  return 3.0 * 2.0 * multiplications


def _block(tokens, width, mlp_ratio):
  projections = tokens * width**2 * (4 + 2 * mlp_ratio)
  return projections + 2 * tokens**2 * width  # and q k^T, weights times v
