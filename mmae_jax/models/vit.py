"""Vision transformer with a class token and positions of a square grid."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from mmae_jax.models import layers, patches as patches_lib

Array = jax.Array

# name: (width, depth, heads, patch size); the digit is the patch size.
SIZES = {
  "ti8": (192, 12, 3, 8),
  "ti16": (192, 12, 3, 16),
  "s8": (384, 12, 6, 8),
  "s16": (384, 12, 6, 16),
  "b16": (768, 12, 12, 16),
  "l16": (1024, 24, 16, 16),
  "h14": (1280, 32, 16, 14),
}


def vit_size(name: str) -> dict[str, int]:
  """Width, depth, heads and patch size of a named ViT.

  Args:
    name: a key of `SIZES`, such as "b16".
  Returns:
    {"width", "depth", "heads", "patch_size"}, the keys of `config.encoder`.
  Raises:
    ValueError: an unknown name; the message lists the known ones.
  Source:
    Dosovitskiy et al. 2021 (arXiv 2010.11929), Touvron et al. 2021 (arXiv
    2012.12877) for Ti and S, He et al. 2022 (arXiv 2111.06377) for B, L, H.
  """
  if name not in SIZES:
    raise ValueError(f"unknown ViT size {name!r}; known: {', '.join(SIZES)}")
  keys = ("width", "depth", "heads", "patch_size")
  return dict(zip(keys, SIZES[name], strict=True))


class ViT(nn.Module):
  """Vision transformer encoder that can look at a subset of the patches.

  Attributes:
    width: entries per token, divisible by 4 and by heads.
    depth: number of blocks.
    heads: number of attention heads.
    patch_size: side of a patch in pixels.
    image_size: side of the square image in pixels; those of other sizes get
      positions that are interpolated, see `patches.resize_positions`.
    mlp_ratio: hidden entries of an MLP over width.
    norm_epsilon: of all LayerNorms.
    learned_positions: positions are parameters (DINO) and begin normal with
      deviation 0.02; else fixed sines and cosines (MAE, MoCo v3).
    dtype: "bfloat16" for products in bfloat16; parameters, residual stream,
      LayerNorm and softmax stay float32. None promotes.
    remat: compute each block again in the backward pass, to save memory.
  """

  width: int
  depth: int
  heads: int
  patch_size: int
  image_size: int
  mlp_ratio: float = 4.0
  norm_epsilon: float = 1e-6
  learned_positions: bool = False
  dtype: str | None = None
  remat: bool = False

  def setup(self):
    if self.image_size % self.patch_size:
      raise ValueError(
        f"image_size {self.image_size} is not divisible by patch_size"
        f" {self.patch_size}"
      )
    if self.learned_positions:
      self.pos_embed = self.param(
        "pos_embed",
        nn.initializers.normal(0.02),
        (1, 1 + self.num_patches, self.width),
      )
    self.cls_token = self.param(
      "cls_token", nn.initializers.normal(0.02), (1, 1, self.width)
    )
    # The original keeps torch's default bias here, U(+-1/sqrt(fan_in)).
    bound = 1 / math.sqrt(3 * self.patch_size**2)
    self.patch_embed = layers.Linear(
      self.width, self.dtype, bias_init=layers.symmetric_uniform(bound)
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

  @property
  def grid(self) -> int:
    """Patches along one side."""
    return self.image_size // self.patch_size

  @property
  def num_patches(self) -> int:
    """Patches of one image."""
    return self.grid**2

  @property
  def feature_dim(self) -> int:
    """Entries of a feature."""
    return self.width

  @property
  def has_batch_norm(self) -> bool:
    """Whether a row's output in training depends on the other rows."""
    return False

  def __call__(self, images: Array, kept: Array | None = None) -> Array:
    """Tokens after the final norm, the class token first.

    Args:
      images: [batch, size, size, 3], float, normalised; a multiple of
        patch_size.
      kept: patches to look at, int [batch, n], in any order; None is all.
    Returns:
      [batch, 1 + n, width], patches in the order of `kept`.
    Raises:
      ValueError: images of another shape.
    """
    tokens = self._embed(images, kept)
    for block in self.blocks:
      tokens = block(tokens)
    return self.norm(tokens)

  def represent(
    self,
    images: Array,
    *,
    train: bool,
    groups: Array | None = None,
    branch_scales: Array | None = None,
  ) -> Array:
    """One feature per image, the class token after the final norm.

    Args:
      images: [batch, size, size, 3], float, normalised; a multiple of
        patch_size.
      train: of no consequence, as `groups`; encoders with BatchNorm need it.
      groups: rows that share statistics.
      branch_scales: factors of the branches of each block, attention and MLP,
        [batch, depth, 2]: 0 leaves one out (drop path); None is 1.
    Returns:
      [batch, width].
    Raises:
      ValueError: images of another shape.
    """
    del train, groups
    tokens = self._embed(images, None)
    for i, block in enumerate(self.blocks):
      scales = () if branch_scales is None else (branch_scales[:, i],)
      tokens = block(tokens, *scales)
    return self.norm(tokens)[:, 0]

  def normalise(self, tokens: Array) -> Array:
    """The final LayerNorm once more (M-MAE's feature passes it twice)."""
    return self.norm(tokens)

  def features(
    self, images: Array, *, pool: str = "auto", layer: int = -1
  ) -> Array:
    """One unmasked feature per image, after the final norm.

    Args:
      images: [batch, size, size, 3], float, normalised; a multiple of
        patch_size.
      pool: "cls" or "auto" for the class token, "mean" for the mean of the
        patch tokens.
      layer: block to read, counted as Python does; -1 is the last.
    Returns:
      [batch, width].
    Raises:
      ValueError: an unknown pool, a layer that does not exist.
    """
    if pool not in ("auto", "cls", "mean"):
      raise ValueError(f"pool must be 'auto', 'cls' or 'mean', got {pool!r}")
    if not -self.depth <= layer < self.depth:
      raise ValueError(f"layer {layer} of an encoder of {self.depth} blocks")
    tokens = self._embed(images, None)
    for block in self.blocks[: layer % self.depth + 1]:
      tokens = block(tokens)
    tokens = self.norm(tokens)
    return tokens[:, 1:].mean(axis=1) if pool == "mean" else tokens[:, 0]

  def _embed(self, images: Array, kept: Array | None) -> Array:
    """Patch tokens with positions behind the class token."""
    size = images.shape[1] if images.ndim == 4 else 0
    fits = size and size % self.patch_size == 0
    if not fits or images.shape[1:] != (size, size, 3):
      raise ValueError(
        "images must be [batch, size, size, 3], size a multiple of patch_size"
        f" {self.patch_size}, got {list(images.shape)}"
      )
    stream = jnp.promote_types(self.cls_token.dtype, images.dtype)
    patches = patches_lib.patchify(images, self.patch_size)
    positions = self._positions(size // self.patch_size, stream)
    places = positions[1:]
    if kept is not None:
      # Pixels, not tokens, are gathered: no scatter in the backward pass.
      patches = jnp.take_along_axis(patches, kept[:, :, None], axis=1)
      places = places[kept]
    tokens = self.patch_embed(patches).astype(stream) + places
    cls = jnp.broadcast_to(
      self.cls_token.astype(stream) + positions[0],
      (images.shape[0], 1, self.width),
    )
    return jnp.concatenate([cls, tokens], axis=1)

  def _positions(self, grid: int, dtype) -> Array:
    """[1 + grid^2, width], the class token's first."""
    if self.learned_positions:
      table = self.pos_embed[0].astype(dtype)
    else:
      table = patches_lib.position_table(self.width, self.grid)
      table = jnp.asarray(table, dtype)
    if grid == self.grid:
      return table
    matrix = patches_lib.resize_positions(self.grid, grid)
    places = jnp.matmul(
      jnp.asarray(matrix, dtype), table[1:], precision=jax.lax.Precision.HIGHEST
    )
    return jnp.concatenate([table[:1], places])
