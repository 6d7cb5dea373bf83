"""How much arithmetic a masked autoencoder needs, from its sizes."""

from mmae_jax.models.mae import MaskedAutoencoder, num_kept


def encoding_flops(model: MaskedAutoencoder, *, mask_ratio: float) -> float:
  """Floating-point operations of the encoder on one masked image, forward.

  Args:
    model: the masked autoencoder.
    mask_ratio: share of the patches that is removed.
  Returns:
    FLOPs; a multiplication and an addition are counted apart.
  Raises:
    ValueError: nothing or everything would be kept.
  """
  encoder = model.encoder
  pixels = 3 * encoder.patch_size**2
  kept = num_kept(encoder.num_patches, mask_ratio)
  block = _block(1 + kept, encoder.width, encoder.mlp_ratio)
  return 2.0 * (kept * pixels * encoder.width + encoder.depth * block)


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
  some = 1 + num_kept(encoder.num_patches, mask_ratio)
  every = 1 + encoder.num_patches
  decoding = (
    some * width * decoder_width
    + model.decoder_depth * _block(every, decoder_width, encoder.mlp_ratio)
    + encoder.num_patches * decoder_width * pixels
  )
  return 3.0 * (encoding_flops(model, mask_ratio=mask_ratio) + 2.0 * decoding)


def _block(tokens, width, mlp_ratio):
  projections = tokens * width**2 * (4 + 2 * mlp_ratio)
  return projections + 2 * tokens**2 * width  # and q k^T, weights times v
