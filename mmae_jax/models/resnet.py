"""Residual networks in the layout and with the numbers of torchvision."""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from mmae_jax.models.norm import BatchNorm

Array = jax.Array

# depth: (blocks of each stage, whether they are bottlenecks).
STAGES = {
  10: ((1, 1, 1, 1), False),
  18: ((2, 2, 2, 2), False),
  34: ((3, 4, 6, 3), False),
  50: ((3, 4, 6, 3), True),
  101: ((3, 4, 23, 3), True),
  152: ((3, 8, 36, 3), True),
}
# stem: (size, stride and padding of the first convolution).
STEMS = {
  "imagenet": (7, 2, 3),
  "small": (3, 1, 1),
  "small_padded": (3, 1, 2),
}


class Conv(nn.Module):
  """A square convolution without bias, padded as torchvision's.

  Attributes:
    features: channels that it leaves.
    size: side of the kernel, odd.
    stride: between two places.
    dtype: type of the product; None promotes inputs and parameters.
    padding: zeros on all sides; None is size // 2 ("SAME" would pad 0 and 1 of
      3 where the stride is 2).
  """

  features: int
  size: int
  stride: int = 1
  dtype: str | None = None
  padding: int | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.param(
      "kernel",
      nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
      (self.size, self.size, x.shape[-1], self.features),
    )
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    if self.size == 1:
      # A product of rows: its gradient takes XLA on a CPU 1 ms where that of
      # the same convolution with stride 2 takes 15.
      x = x[:, :: self.stride, :: self.stride]
      rows = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
      return rows.reshape(*x.shape[:-1], self.features)
    padding = self.size // 2 if self.padding is None else self.padding
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (self.stride, self.stride),
      [(padding, padding)] * 2,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class Block(nn.Module):
  """A residual block, relu(shortcut(x) + branch(x)).

  The branch is 3x3, 3x3 (basic) or 1x1, 3x3, 1x1 (bottleneck), each followed
  by BatchNorm and, but for the last, ReLU. The stride is in the first 3x3
  ("v1.5"; the paper has it in the first 1x1). Where shapes differ the shortcut
  is a 1x1 convolution and BatchNorm.

  Attributes:
    width: channels of the 3x3 convolutions; a bottleneck leaves four times as
      many.
    stride: of the block.
    bottleneck: which branch.
    norm: (name=..., **changes) -> BatchNorm.
    zero_init_last: the branch's last scale begins at 0, so that the block
      begins as its shortcut.
    dtype: type of the convolutions; None promotes inputs and parameters.
  """

  width: int
  stride: int
  bottleneck: bool
  norm: Callable[..., nn.Module]
  zero_init_last: bool
  dtype: str | None = None

  @nn.compact
  def __call__(self, x: Array, train: bool, groups: Array | None) -> Array:
    width, stride = self.width, self.stride
    if self.bottleneck:
      layers = ((width, 1, 1), (width, 3, stride), (4 * width, 1, 1))
    else:
      layers = ((width, 3, stride), (width, 3, 1))
    y = x
    for i, (features, size, step) in enumerate(layers, 1):
      y = Conv(features, size, step, self.dtype, name=f"conv{i}")(y)
      is_last = i == len(layers)
      first_scale = float(not (is_last and self.zero_init_last))
      norm = self.norm(
        name=f"bn{i}", scale_init=nn.initializers.constant(first_scale)
      )
      y = norm(y, train=train, groups=groups)
      y = y if is_last else nn.relu(y)
    if x.shape != y.shape:
      x = Conv(y.shape[-1], 1, stride, self.dtype, name="downsample_0")(x)
      x = self.norm(name="downsample_1")(x, train=train, groups=groups)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """Residual network; the feature is the mean over the last map.

  Attributes:
    depth: a key of `STAGES`; 10 has one basic block in each stage.
    width_multiplier: of all channels (64 in the first convolution).
    stem: "imagenet" is a 7x7 convolution of stride 2 and a 3x3 max-pool of
      stride 2; "small" a 3x3 convolution of stride 1, for small images;
      "small_padded" the same with two zeros around them (solo-learn).
    zero_init_last: the last BatchNorm scale of each block begins at 0.
    momentum: of BatchNorm, the share of the running statistics that is kept.
    epsilon: of BatchNorm.
    group_size: rows that share BatchNorm statistics, 0 is the whole batch.
    dtype: "bfloat16" for activations in bfloat16; parameters and statistics
      stay float32. None promotes.
    remat: compute each block again in the backward pass, to save memory.
  """

  depth: int = 50
  width_multiplier: float = 1.0
  stem: str = "imagenet"
  zero_init_last: bool = True
  momentum: float = 0.9
  epsilon: float = 1e-5
  group_size: int = 0
  dtype: str | None = None
  remat: bool = False

  def setup(self):
    if self.depth not in STAGES:
      raise ValueError(
        f"depth must be one of {', '.join(map(str, STAGES))}, got {self.depth}"
      )
    if self.stem not in STEMS:
      raise ValueError(
        f"stem must be one of {', '.join(STEMS)}, got {self.stem!r}"
      )
    width = self.width
    norm = functools.partial(
      BatchNorm,
      epsilon=self.epsilon,
      momentum=self.momentum,
      group_size=self.group_size,
    )
    size, stride, padding = STEMS[self.stem]
    self.conv1 = Conv(width, size, stride, self.dtype, padding)
    self.bn1 = norm()
    block = nn.remat(Block, static_argnums=2) if self.remat else Block
    counts, bottleneck = STAGES[self.depth]
    self.stages = [
      [
        block(
          width * 2**i,
          2 if i and not j else 1,
          bottleneck,
          norm,
          self.zero_init_last,
          self.dtype,
          name=f"layer{i + 1}_{j}",
        )
        for j in range(count)
      ]
      for i, count in enumerate(counts)
    ]

  @property
  def width(self) -> int:
    """Channels of the first convolution."""
    width = 64 * self.width_multiplier
    if width < 1 or width != int(width):
      raise ValueError(
        "width_multiplier times 64 must be a positive whole number, got"
        f" {self.width_multiplier}"
      )
    return int(width)

  @property
  def feature_dim(self) -> int:
    """Entries of a feature."""
    counts, bottleneck = STAGES[self.depth]
    return self.width * 2 ** (len(counts) - 1) * (4 if bottleneck else 1)

  @property
  def has_batch_norm(self) -> bool:
    """Whether a row's output in training depends on the other rows."""
    return True

  def represent(
    self, images: Array, *, train: bool, groups: Array | None = None
  ) -> Array:
    """One feature per image, the mean over the last map.

    Args:
      images: [batch, height, width, 3], float, normalised.
      train: BatchNorm uses and records the statistics of this batch.
      groups: see `BatchNorm`; int [batch] or None.
    Returns:
      [batch, feature_dim], at least float32.
    Raises:
      ValueError: images of another shape, group_size does not divide the
        batch.
    """
    return self._mean_map(images, len(self.stages), train, groups)

  def features(
    self, images: Array, *, pool: str = "auto", layer: int = -1
  ) -> Array:
    """One feature per image, with the running statistics.

    Args:
      images: [batch, height, width, 3], float, normalised.
      pool: "mean" or "auto", over the map.
      layer: stage to read, counted as Python does; -1 is the last.
    Returns:
      [batch, channels of the stage], at least float32.
    Raises:
      ValueError: another pool, a layer that does not exist.
    """
    if pool not in ("auto", "mean"):
      raise ValueError(
        "pool must be 'auto' or 'mean' with a ResNet, which has no class token"
        f" (evaluation.pool), got {pool!r}"
      )
    count = len(self.stages)
    if not -count <= layer < count:
      raise ValueError(f"layer {layer} of an encoder of {count} stages")
    return self._mean_map(images, layer % count + 1, False, None)

  def _mean_map(self, images, stages, train, groups):
    """The mean over the map after so many stages."""
    if images.ndim != 4 or images.shape[-1] != 3:
      raise ValueError(
        f"images must be [batch, height, width, 3], got {list(images.shape)}"
      )
    x = self.bn1(self.conv1(images), train=train, groups=groups)
    x = nn.relu(x)
    if self.stem == "imagenet":
      # Pads with -inf.
      x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    for stage in self.stages[:stages]:
      for block in stage:
        x = block(x, train, groups)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x.mean(axis=(1, 2))
