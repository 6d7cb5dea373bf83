"""Masked autoencoder: a ViT on the kept patches, a light decoder on all."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from mmae_jax.models import layers, vit
from mmae_jax.models.patches import patchify, position_table, unpatchify

__all__ = [
  "Decoder",
  "MaskedAutoencoder",
  "num_kept",
  "patch_targets",
  "patchify",
  "reconstruction_errors",
  "unpatchify",
]

Array = jax.Array


def num_kept(length: int, mask_ratio: float) -> int:
  """Patches that stay visible, int(length * (1 - mask_ratio)).

  Args:
    length: patches of one image.
    mask_ratio: share to remove, between 0 and 1.
  Returns:
    A count; the product is truncated, not rounded, as the authors' program
    does (196 patches at 0.9 keep 19).
  Raises:
    ValueError: nothing or everything would be kept.
  """
  kept = int(length * (1 - mask_ratio))
  if not 0 < kept < length:
    raise ValueError(
      f"mask_ratio {mask_ratio} keeps {kept} of {length} patches; it must keep"
      " at least one and remove at least one"
    )
  return kept


def patch_targets(
  images: Array, *, patch_size: int, normalise_patches: bool = True
) -> Array:
  """What the decoder predicts: pixels, per patch (x - mean) / sqrt(var + 1e-6).

  Args:
    images: [batch, size, size, 3], normalised.
    patch_size: side of a patch in pixels.
    normalise_patches: False leaves the pixels as they are.
  Returns:
    [batch, patches, patch_size^2 * 3].
  Source:
    He et al. 2022 (arXiv 2111.06377), section 4; the variance is unbiased
    (n - 1), as in the authors' program.
  """
  targets = patchify(images, patch_size)
  if not normalise_patches:
    return targets
  mean = targets.mean(axis=-1, keepdims=True)
  variance = targets.var(axis=-1, keepdims=True, ddof=1)
  return (targets - mean) / jnp.sqrt(variance + 1e-6)


def reconstruction_errors(
  prediction: Array,
  images: Array,
  mask: Array,
  *,
  patch_size: int,
  normalise_patches: bool = True,
) -> Array:
  """Mean squared error of each image over its removed patches.

  sum_l mask_l mean_k (prediction_lk - target_lk)^2 / sum_l mask_l

  Args:
    prediction: [batch, patches, patch_size^2 * 3].
    images: [batch, size, size, 3], normalised.
    mask: [batch, patches], 0 kept, 1 removed; at least one removed per image.
    patch_size: side of a patch in pixels.
    normalise_patches: compare with patches of mean 0 and variance 1.
  Returns:
    [batch], at least float32. Every image loses equally many patches, so the
    mean over the batch is the loss of the authors' program.
  Raises:
    ValueError: prediction does not have the shape of the targets.
  Source:
    He et al. 2022 (arXiv 2111.06377), section 3.
  """
  dtype = jnp.promote_types(prediction.dtype, jnp.float32)
  targets = patch_targets(
    images.astype(dtype),
    patch_size=patch_size,
    normalise_patches=normalise_patches,
  )
  if prediction.shape != targets.shape:
    raise ValueError(
      f"prediction must be {targets.shape}, got {prediction.shape}"
    )
  errors = jnp.square(prediction.astype(dtype) - targets).mean(axis=-1)
  mask = mask.astype(dtype)
  return (errors * mask).sum(axis=1) / mask.sum(axis=1)


class Decoder(nn.Module):
  """Light transformer from the kept tokens to the pixels of all patches.

  Attributes:
    width: entries per token, divisible by 4 and by heads.
    depth: number of blocks.
    heads: number of attention heads.
    patch_size: side of a patch in pixels.
    grid: patches along one side of the image.
    mlp_ratio: hidden entries of an MLP over width.
    norm_epsilon: of all LayerNorms.
    dtype: as in `ViT`.
    remat: as in `ViT`.
  """

  width: int
  depth: int
  heads: int
  patch_size: int
  grid: int
  mlp_ratio: float = 4.0
  norm_epsilon: float = 1e-6
  dtype: str | None = None
  remat: bool = False

  def setup(self):
    self.positions = position_table(self.width, self.grid)
    self.embed = layers.Linear(self.width, self.dtype)
    self.mask_token = self.param(
      "mask_token", nn.initializers.normal(0.02), (1, 1, self.width)
    )
    self.blocks = layers.make_blocks(
      self.depth,
      self.width,
      self.heads,
      mlp_ratio=self.mlp_ratio,
      norm_epsilon=self.norm_epsilon,
      dtype=self.dtype,
      remat=self.remat,
    )
    self.norm = layers.layer_norm(self.norm_epsilon)
    self.pred = layers.Linear(3 * self.patch_size**2, self.dtype)

  def __call__(self, latent: Array, kept: Array) -> Array:
    """Predicts all patches.

    Args:
      latent: encoder tokens, [batch, 1 + n, encoder width].
      kept: the patch that each token but the first stands for, int [batch, n].
    Returns:
      [batch, grid^2, patch_size^2 * 3].
    """
    tokens = self.embed(latent).astype(latent.dtype)
    blank = jnp.broadcast_to(
      self.mask_token[0].astype(tokens.dtype), (self.grid**2, self.width)
    )
    put = jax.vmap(lambda i, x: blank.at[i].set(x, unique_indices=True))
    tokens = jnp.concatenate([tokens[:, :1], put(kept, tokens[:, 1:])], axis=1)
    tokens = tokens + jnp.asarray(self.positions, tokens.dtype)
    for block in self.blocks:
      tokens = block(tokens)
    return self.pred(self.norm(tokens)[:, 1:])


class MaskedAutoencoder(nn.Module):
  """MAE: encode the patches with the lowest noise, reconstruct the others.

  Attributes:
    encoder: a `ViT`; patch size, image size, MLP ratio, epsilon, type and
      rematerialisation of the decoder are its own.
    decoder_width: entries per decoder token.
    decoder_depth: number of decoder blocks.
    decoder_heads: number of decoder attention heads.
    decoder_norm_epsilon: of the decoder's LayerNorms; None is the encoder's.
  """

  encoder: vit.ViT
  decoder_width: int = 512
  decoder_depth: int = 8
  decoder_heads: int = 16
  decoder_norm_epsilon: float | None = None

  def setup(self):
    self.decoder = Decoder(
      self.decoder_width,
      self.decoder_depth,
      self.decoder_heads,
      patch_size=self.encoder.patch_size,
      grid=self.encoder.grid,
      mlp_ratio=self.encoder.mlp_ratio,
      norm_epsilon=self.decoder_norm_epsilon or self.encoder.norm_epsilon,
      dtype=self.encoder.dtype,
      remat=self.encoder.remat,
    )

  def __call__(
    self, images: Array, noise: Array, *, mask_ratio: float = 0.75
  ) -> tuple[Array, Array, Array]:
    """Masks, encodes, decodes.

    Args:
      images: [batch, size, size, 3], float, normalised.
      noise: [batch, patches]; each image keeps its lowest values.
      mask_ratio: share of patches to remove.
    Returns:
      prediction [batch, patches, patch_size^2 * 3]; mask [batch, patches],
      0 kept and 1 removed; latent [batch, 1 + n, width], after the encoder's
      norm, the class token first, patches in the order of their noise.
    Raises:
      ValueError: nothing or everything would be kept; noise of another shape.
    Source:
      He et al. 2022 (arXiv 2111.06377), section 3.
    """
    length = self.encoder.num_patches
    if noise.shape != (images.shape[0], length):
      raise ValueError(
        f"noise must be {(images.shape[0], length)}, got {noise.shape}"
      )
    kept = jnp.argsort(noise, axis=1)[:, : num_kept(length, mask_ratio)]
    latent = self.encoder(images, kept)
    prediction = self.decoder(latent, kept)
    ones = jnp.ones(length, latent.dtype)
    mask = jax.vmap(lambda i: ones.at[i].set(0))(kept)
    return prediction, mask, latent
