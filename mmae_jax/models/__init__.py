"""Networks; `build_encoder` makes the one that a config describes."""

from typing import Any

from mmae_jax import types
from mmae_jax.models import resnet, vit
from mmae_jax.models.mae import MaskedAutoencoder
from mmae_jax.models.resnet import ResNet
from mmae_jax.models.vit import ViT, vit_size

__all__ = ["MaskedAutoencoder", "ResNet", "ViT", "build_encoder", "vit_size"]

_DTYPES = {"float32": None, "bfloat16": "bfloat16"}


def build_encoder(config: Any, image_size: int) -> ViT | ResNet:
  """The encoder of `config.encoder` for square images.

  Args:
    config: name, depth, dtype, remat, and of a ViT width, heads, mlp_ratio,
      patch_size, learned_positions, layer_norm_epsilon; of a ResNet
      width_multiplier, stem, zero_init_last, norm_momentum, norm_epsilon,
      group_size.
    image_size: side of the images in pixels, `config.views["global"].size`; a
      ResNet takes any.
  Returns:
    An unbound module with `feature_dim`, `has_batch_norm`,
    `features(images, pool, layer)` and `represent(images, train, groups)`.
  Raises:
    UsageError: an unknown name or dtype, sizes that do not fit together.
  """
  makers = {"vit": _vit, "resnet": _resnet}
  _require(
    config.name in makers,
    config,
    "name",
    f"unknown encoder; known: {', '.join(makers)}",
  )
  _require(
    config.dtype in _DTYPES,
    config,
    "dtype",
    f"must be one of {', '.join(_DTYPES)}",
  )
  return makers[config.name](config, image_size)


def _require(ok, config, name, expected):
  if not ok:
    raise types.UsageError(
      f"--config.encoder.{name}={config[name]}: {expected}"
    )


def _vit(config, image_size):
  for name in ("width", "depth", "heads", "patch_size", "mlp_ratio"):
    _require(config[name] > 0, config, name, "must be positive")
  _require(
    image_size % config.patch_size == 0,
    config,
    "patch_size",
    f"does not divide the image size {image_size} (--config.views.global.size)",
  )
  _require(
    config.width % config.heads == 0,
    config,
    "heads",
    f"does not divide --config.encoder.width={config.width}",
  )
  _require(
    config.width % 4 == 0,
    config,
    "width",
    "must be divisible by 4 (positions)",
  )
  return vit.ViT(
    width=config.width,
    depth=config.depth,
    heads=config.heads,
    patch_size=config.patch_size,
    image_size=image_size,
    mlp_ratio=config.mlp_ratio,
    norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
    learned_positions=config.get("learned_positions", False),
    dtype=_DTYPES[config.dtype],
    remat=config.remat,
  )


def _resnet(config, image_size):
  del image_size
  channels = 64 * config.width_multiplier
  for name, ok, expected in (
    (
      "depth",
      config.depth in resnet.STAGES,
      f"a ResNet has one of {', '.join(map(str, resnet.STAGES))}",
    ),
    (
      "width_multiplier",
      channels >= 1 and channels == int(channels),
      "64 times it must be a positive whole number (of channels)",
    ),
    (
      "stem",
      config.stem in resnet.STEMS,
      f"must be one of {', '.join(resnet.STEMS)}",
    ),
    ("norm_momentum", 0 <= config.norm_momentum <= 1, "must be in [0, 1]"),
    ("norm_epsilon", config.norm_epsilon > 0, "must be positive"),
    (
      "group_size",
      config.group_size == 0 or config.group_size >= 2,
      "must be at least 2, or 0 for the whole batch",
    ),
  ):
    _require(ok, config, name, expected)
  return resnet.ResNet(
    depth=config.depth,
    width_multiplier=config.width_multiplier,
    stem=config.stem,
    zero_init_last=config.zero_init_last,
    momentum=config.norm_momentum,
    epsilon=config.norm_epsilon,
    group_size=config.group_size,
    dtype=_DTYPES[config.dtype],
    remat=config.remat,
  )
