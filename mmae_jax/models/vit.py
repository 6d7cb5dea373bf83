"""Vision transformer with fixed 2-D sine-cosine positions and a class token."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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
  return dict(zip(("width", "depth", "heads", "patch_size"), SIZES[name]))


def position_table(width: int, grid: int) -> np.ndarray:
  """Fixed sine-cosine positions of a square grid, the class token's first.

  A scalar position t becomes [sin(t w_k) | cos(t w_k)] with w_k = 10000^(-k/n),
  k = 0..n-1 and n = width / 4; a token is [column | row].

  Args:
    width: entries per token, a multiple of 4.
    grid: tokens along one side.
  Returns:
    [1 + grid^2, width], float64; the row of the class token is zero.
  Raises:
    ValueError: width is not divisible by 4.
  Source:
    He et al. 2022 (arXiv 2111.06377); the authors' program puts the column
    first, though its variable names say the row.
  """
  if width % 4:
    raise ValueError(f"width must be divisible by 4 (sin-cos), got {width}")
  quarter = width // 4
  frequencies = 10000.0 ** (-np.arange(quarter, dtype=np.float64) / quarter)
  angles = np.arange(grid, dtype=np.float64)[:, None] * frequencies
  line = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
  rows, columns = np.divmod(np.arange(grid * grid), grid)
  tokens = np.concatenate([line[columns], line[rows]], axis=1)
  return np.concatenate([np.zeros((1, width)), tokens])


def patchify(images: Array, patch_size: int) -> Array:
  """Cuts images into patches, row-major, the channel fastest inside a patch.

  Args:
    images: [batch, height, width, channels].
    patch_size: side of a square patch in pixels.
  Returns:
    [batch, patches, patch_size^2 * channels]; entry (y * p + x) * c + channel.
  Raises:
    ValueError: a side is not divisible by the patch size.
  """
  batch, height, width, channels = images.shape
  if height % patch_size or width % patch_size:
    raise ValueError(
      f"image of {height} x {width} is not divisible by patch_size {patch_size}"
    )
  rows, columns = height // patch_size, width // patch_size
  x = images.reshape(batch, rows, patch_size, columns, patch_size, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, rows * columns, patch_size**2 * channels)


def attention(query: Array, key: Array, value: Array) -> Array:
  """Softmax attention, softmax(q k^T / sqrt(dim)) v, in the fastest form here.

  Args:
    query: [batch, length, heads, dim].
    key: as `query`.
    value: as `query`.
  Returns:
    [batch, length, heads, dim] in the inputs' type; softmax at least float32.
  """
  if _has_flash_attention(query):
    return jax.nn.dot_product_attention(
      query, key, value, implementation="cudnn"
    )
  query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
  accumulate = jnp.promote_types(query.dtype, jnp.float32)
  query = query * query.shape[-1] ** -0.5
  # b batch, h head, q query, k key, d dim
  logits = jnp.einsum(
    "bhqd,bhkd->bhqk", query, key, preferred_element_type=accumulate
  )
  weights = nn.softmax(logits).astype(value.dtype)
  return jnp.einsum("bhqk,bhkd->bqhd", weights, value)


def _has_flash_attention(x: Array) -> bool:
  """Whether cuDNN's fused kernel takes this type and head size here."""
  if jax.default_backend() != "gpu" or x.dtype != jnp.bfloat16:
    return False
  capability = str(getattr(jax.devices()[0], "compute_capability", ""))
  is_ampere = capability[:1].isdigit() and float(capability) >= 8.0
  return is_ampere and x.shape[-1] % 8 == 0 and x.shape[-1] <= 128


def dense(features: int, dtype: str | None, **kwargs) -> nn.Dense:
  """A linear layer as MAE initialises it: xavier-uniform kernel, zero bias."""
  return nn.Dense(
    features,
    dtype=dtype,
    kernel_init=nn.initializers.xavier_uniform(),
    **kwargs,
  )


def layer_norm() -> nn.LayerNorm:
  """LayerNorm at eps 1e-6, its variance in two passes (the fast one cancels).

  Without a dtype it stays in the type of the residual stream.
  """
  return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)


class Attention(nn.Module):
  """Multi-head self-attention with one fused projection [q | k | v].

  Attributes:
    width: entries per token.
    heads: number of heads, divides width.
    dtype: type of the products; None promotes inputs and parameters.
  """

  width: int
  heads: int
  dtype: str | None = None

  def setup(self):
    # One (d, 3d) kernel: xavier on separate kernels would have a wider bound.
    self.qkv = dense(3 * self.width, self.dtype)
    self.proj = dense(self.width, self.dtype)

  def __call__(self, x: Array) -> Array:
    shape = (*x.shape[:2], 3, self.heads, self.width // self.heads)
    qkv = self.qkv(x).reshape(shape)
    return self.proj(attention(*jnp.moveaxis(qkv, 2, 0)).reshape(x.shape))


class MLP(nn.Module):
  """Linear, exact (erf) GELU, linear.

  Attributes:
    width: entries per token.
    hidden: entries between the two layers.
    dtype: type of the products; None promotes inputs and parameters.
  """

  width: int
  hidden: int
  dtype: str | None = None

  def setup(self):
    self.fc1 = dense(self.hidden, self.dtype)
    self.fc2 = dense(self.width, self.dtype)

  def __call__(self, x: Array) -> Array:
    return self.fc2(nn.gelu(self.fc1(x), approximate=False))


class Block(nn.Module):
  """Pre-norm transformer block: x + Attn(LN x), then x + MLP(LN x).

  Attributes:
    width: entries per token.
    heads: number of heads, divides width.
    mlp_ratio: hidden entries of the MLP over width.
    dtype: type of the products; the residual stream keeps the input's type.
  """

  width: int
  heads: int
  mlp_ratio: float = 4.0
  dtype: str | None = None

  def setup(self):
    self.norm1 = layer_norm()
    self.attn = Attention(self.width, self.heads, self.dtype)
    self.norm2 = layer_norm()
    self.mlp = MLP(self.width, int(self.width * self.mlp_ratio), self.dtype)

  def __call__(self, x: Array) -> Array:
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


def make_blocks(
  depth: int, width: int, heads: int, *, remat: bool, **kwargs
) -> list[nn.Module]:
  """The blocks of an encoder or decoder, named block_0, block_1, ...

  Args:
    depth: number of blocks.
    width: entries per token.
    heads: number of heads.
    remat: whether each block is computed again in the backward pass.
    **kwargs: further attributes of `Block`.
  Returns:
    A list of unbound modules.
  Raises:
    ValueError: width is not divisible by heads.
  """
  if width % heads:
    raise ValueError(f"width {width} is not divisible by heads {heads}")
  block = nn.remat(Block) if remat else Block
  return [
    block(width, heads, name=f"block_{i}", **kwargs) for i in range(depth)
  ]


class ViT(nn.Module):
  """Vision transformer encoder that can look at a subset of the patches.

  Attributes:
    width: entries per token, divisible by 4 and by heads.
    depth: number of blocks.
    heads: number of attention heads.
    patch_size: side of a patch in pixels.
    image_size: side of the square image in pixels.
    mlp_ratio: hidden entries of an MLP over width.
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
  dtype: str | None = None
  remat: bool = False

  def setup(self):
    if self.image_size % self.patch_size:
      raise ValueError(
        f"image_size {self.image_size} is not divisible by patch_size"
        f" {self.patch_size}"
      )
    self.positions = position_table(self.width, self.grid)
    self.cls_token = self.param(
      "cls_token", nn.initializers.normal(0.02), (1, 1, self.width)
    )
    # The original keeps torch's default bias here, U(+-1/sqrt(fan_in)).
    bound = 1 / math.sqrt(3 * self.patch_size**2)
    self.patch_embed = dense(
      self.width, self.dtype, bias_init=_symmetric_uniform(bound)
    )
    self.blocks = make_blocks(
      self.depth,
      self.width,
      self.heads,
      mlp_ratio=self.mlp_ratio,
      dtype=self.dtype,
      remat=self.remat,
    )
    self.norm = layer_norm()

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

  def __call__(self, images: Array, kept: Array | None = None) -> Array:
    """Tokens after the final norm, the class token first.

    Args:
      images: [batch, image_size, image_size, 3], float, normalised.
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

  def normalise(self, tokens: Array) -> Array:
    """The final LayerNorm once more (M-MAE's feature passes it twice)."""
    return self.norm(tokens)

  def features(
    self, images: Array, *, pool: str = "cls", layer: int = -1
  ) -> Array:
    """One unmasked feature per image, after the final norm.

    Args:
      images: [batch, image_size, image_size, 3], float, normalised.
      pool: "cls" for the class token, "mean" for the mean of patch tokens.
      layer: block to read, counted as Python does; -1 is the last.
    Returns:
      [batch, width].
    Raises:
      ValueError: an unknown pool, a layer that does not exist.
    """
    if pool not in ("cls", "mean"):
      raise ValueError(f"pool must be 'cls' or 'mean', got {pool!r}")
    if not -self.depth <= layer < self.depth:
      raise ValueError(f"layer {layer} of an encoder of {self.depth} blocks")
    tokens = self._embed(images, None)
    for block in self.blocks[: layer % self.depth + 1]:
      tokens = block(tokens)
    tokens = self.norm(tokens)
    return tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(axis=1)

  def _embed(self, images: Array, kept: Array | None) -> Array:
    """Patch tokens with positions behind the class token."""
    expected = (self.image_size, self.image_size, 3)
    if images.ndim != 4 or images.shape[1:] != expected:
      raise ValueError(
        f"images must be [batch, {', '.join(map(str, expected))}],"
        f" got {list(images.shape)}"
      )
    stream = jnp.promote_types(self.cls_token.dtype, images.dtype)
    patches = patchify(images, self.patch_size)
    positions = jnp.asarray(self.positions, stream)
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


def _symmetric_uniform(bound: float) -> nn.initializers.Initializer:
  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
