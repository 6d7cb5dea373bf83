"""The evaluation's centre view on the device: `data/crops.py` for batches."""

import jax
import jax.numpy as jnp

Array = jax.Array
_METHODS = {"bicubic": "cubic", "bilinear": "linear"}
# Up to this size an encoder sees the whole short side, as in `centre_view`.
_SMALL = 64


def fit_images(
  images: Array, size: int, *, interpolation: str = "bicubic"
) -> Array:
  """Resizes a batch with antialiasing and keeps the central square.

  The short side becomes size * 256 / 224, or `size` itself where that is at
  most 64; only the pixels that are kept are computed.

  Args:
    images: uint8 [batch, height, width, 3].
    size: side of the result in pixels.
    interpolation: "bicubic" (a = -0.5, as Pillow's) or "bilinear".
  Returns:
    uint8 [batch, size, size, 3]; that of `crops.centre_view` up to a grey
    level (a few at hard edges where Pillow takes the rows first).
  """
  sides = images.shape[1:3]
  short = size if size <= _SMALL else size * 256 // 224
  # Columns before rows and 8 bits in between, as Pillow does it: bicubic
  # overshoots at edges, and clipping that once or twice is not the same.
  for axis in (2, 1):
    resized = sides[axis - 1] * short // min(sides)
    images = _resize_axis(images, axis, resized, size, interpolation)
  return images


def _resize_axis(images, axis, resized, size, interpolation):
  """The central `size` of one axis brought to `resized` pixels."""
  length = images.shape[axis]
  if length == resized == size:
    return images
  shape = (*images.shape[:axis], size, *images.shape[axis + 1 :])
  pixels = jax.image.scale_and_translate(
    images.astype(jnp.float32),
    shape,
    (axis,),
    jnp.full(1, resized / length, jnp.float32),
    jnp.full(1, -round((resized - size) / 2), jnp.float32),
    _METHODS[interpolation],
    antialias=True,
    precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)
