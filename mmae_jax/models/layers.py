"""The layers of a vision transformer."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


def attention(query: Array, key: Array, value: Array) -> Array:
  """Softmax attention, softmax(q k^T / sqrt(dim)) v.

  The one place where its form is chosen. Measured on a CPU with ViT-B/16's
  decoder and with the embedded model: heads before length beats products on
  [batch, length, heads, dim], and neither lax.map over the batch nor a
  hand-written gradient gains anything over it. On a GPU bfloat16 takes
  cuDNN's fused kernel.

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
  mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
  return jnp.swapaxes(mixed, 1, 2)


def _has_flash_attention(x: Array) -> bool:
  """Whether cuDNN's fused kernel takes this type and head size here."""
  if jax.default_backend() != "gpu" or x.dtype != jnp.bfloat16:
    return False
  capability = str(getattr(jax.devices()[0], "compute_capability", ""))
  is_ampere = capability[:1].isdigit() and float(capability) >= 8.0
  return is_ampere and x.shape[-1] % 8 == 0 and x.shape[-1] <= 128


def gelu(x: Array) -> Array:
  """Exact GELU, x (1 + erf(x / sqrt(2))) / 2, inside at least float32.

  jax.nn.gelu(approximate=False) asks for erfc, which XLA expands to three
  passes over the largest activation of a block.
  """
  y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return (0.5 * y * (1 + jax.lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


def layer_norm(epsilon: float = 1e-6) -> nn.LayerNorm:
  """LayerNorm, its variance in two passes (the fast one cancels).

  Without a dtype it stays in the type of the residual stream.
  """
  return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False)


class Linear(nn.Module):
  """A linear layer as MAE initialises it: xavier-uniform kernel, zero bias.

  Attributes:
    features: entries of an output row.
    dtype: type of the product; None promotes inputs and parameters.
    bias_init: initialiser of the bias.
  """

  features: int
  dtype: str | None = None
  bias_init: nn.initializers.Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.xavier_uniform(), shape)
    bias = self.param("bias", self.bias_init, (self.features,))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    # One row per token: a weight gradient that contracts batch and length
    # separately costs XLA's CPU compiler a transposed copy of its operand.
    rows = x.reshape(-1, x.shape[-1]) @ kernel + bias
    return rows.reshape(*x.shape[:-1], self.features)


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
    self.qkv = Linear(3 * self.width, self.dtype)
    self.proj = Linear(self.width, self.dtype)

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
    self.fc1 = Linear(self.hidden, self.dtype)
    self.fc2 = Linear(self.width, self.dtype)

  def __call__(self, x: Array) -> Array:
    return self.fc2(gelu(self.fc1(x)))


class Block(nn.Module):
  """Pre-norm transformer block: x + Attn(LN x), then x + MLP(LN x).

  Attributes:
    width: entries per token.
    heads: number of heads, divides width.
    mlp_ratio: hidden entries of the MLP over width.
    norm_epsilon: of both LayerNorms.
    dtype: type of the products; the residual stream keeps the input's type.
  """

  width: int
  heads: int
  mlp_ratio: float = 4.0
  norm_epsilon: float = 1e-6
  dtype: str | None = None

  def setup(self):
    self.norm1 = layer_norm(self.norm_epsilon)
    self.attn = Attention(self.width, self.heads, self.dtype)
    self.norm2 = layer_norm(self.norm_epsilon)
    self.mlp = MLP(self.width, round(self.width * self.mlp_ratio), self.dtype)

  def __call__(self, x: Array, scales: Array | None = None) -> Array:
    """`scales` are factors of both branches, [batch, 2]; None is 1."""
    first = self.attn(self.norm1(x))
    if scales is not None:
      first = first * scales[:, 0, None, None].astype(first.dtype)
    x = x + first
    second = self.mlp(self.norm2(x))
    if scales is not None:
      second = second * scales[:, 1, None, None].astype(second.dtype)
    return x + second


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


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
  """An initialiser that draws from U(-bound, bound)."""

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
