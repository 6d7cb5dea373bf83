"""Networks; `build_encoder` makes the one that a config describes."""

from typing import Any

from mmae_jax import types
from mmae_jax.models import vit
from mmae_jax.models.mae import MaskedAutoencoder
from mmae_jax.models.vit import ViT, vit_size

__all__ = ["MaskedAutoencoder", "ViT", "build_encoder", "vit_size"]

_DTYPES = {"float32": None, "bfloat16": "bfloat16"}


def build_encoder(config: Any, image_size: int) -> ViT:
  """The encoder of `config.encoder` for square images.

  Args:
    config: name, width, depth, heads, mlp_ratio, patch_size, dtype, remat.
    image_size: side of the images in pixels, `config.views["global"].size`.
  Returns:
    An unbound module with `feature_dim` and `features(images, pool, layer)`.
  Raises:
    UsageError: an unknown name or dtype, sizes that do not fit together.
  """
  flag = "--config.encoder"
  if config.name != "vit":
    raise types.UsageError(
      f"{flag}.name={config.name}: unknown encoder; known: vit"
    )
  if config.dtype not in _DTYPES:
    raise types.UsageError(
      f"{flag}.dtype={config.dtype}: must be one of {', '.join(_DTYPES)}"
    )
  for name in ("width", "depth", "heads", "patch_size", "mlp_ratio"):
    if config[name] <= 0:
      raise types.UsageError(f"{flag}.{name}={config[name]}: must be positive")
  if image_size % config.patch_size:
    raise types.UsageError(
      f"{flag}.patch_size={config.patch_size}: does not divide the image size"
      f" {image_size} (--config.views.global.size)"
    )
  if config.width % config.heads:
    raise types.UsageError(
      f"{flag}.heads={config.heads}: does not divide --config.encoder.width"
      f"={config.width}"
    )
  if config.width % 4:
    raise types.UsageError(
      f"{flag}.width={config.width}: must be divisible by 4 (positions)"
    )
  return vit.ViT(
    width=config.width,
    depth=config.depth,
    heads=config.heads,
    patch_size=config.patch_size,
    image_size=image_size,
    mlp_ratio=config.mlp_ratio,
    dtype=_DTYPES[config.dtype],
    remat=config.remat,
  )
