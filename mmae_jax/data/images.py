"""Encoded bytes to upright 8-bit RGB, whatever the camera or scanner wrote."""

import io
import math

import numpy as np
from PIL import Image, ImageOps

# A drafted JPEG keeps at least this many source pixels for each target pixel,
# so that the antialiased resize still decides what is seen. Pillow's own
# thumbnails use the same factor.
_DRAFT_MARGIN = 2.0
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_ORIENTATION = 0x0112  # the EXIF tag


def decode(image: bytes | np.ndarray) -> np.ndarray:
  """The pixels of an image as 8-bit RGB.

  EXIF rotation is applied; 16-bit grey is divided by 257; palettes, CMYK and
  single bits are converted by Pillow; transparency is laid over white; of an
  animation the first frame is taken; colour profiles are not applied.

  Args:
    image: an encoded file, or pixels [height, width, 1 or 3] or
      [height, width], uint8.
  Returns:
    uint8 [height, width, 3].
  Raises:
    ValueError: pixels of another shape or type, or 32-bit float pixels, whose
      range no file states.
    Exception: what Pillow raises on a damaged file (there is no common type).
  """
  return np.asarray(_rgb(open_upright(image)))


def open_upright(image: bytes | np.ndarray) -> Image.Image:
  """Opens an image without reading the pixels of a plain JPEG.

  Args:
    image: as `decode` takes it.
  Returns:
    A Pillow image whose size is that of the upright picture; `load_reduced`
    makes it RGB.
  """
  if isinstance(image, np.ndarray):
    return Image.fromarray(_three_channels(image))
  picture = Image.open(io.BytesIO(image))
  if picture.getexif().get(_ORIENTATION, 1) != 1:
    picture = ImageOps.exif_transpose(picture)
  return picture


def load_reduced(picture: Image.Image, reduction: float) -> Image.Image:
  """Reads the pixels, of a JPEG perhaps at 1/2, 1/4 or 1/8 of its size.

  Args:
    picture: from `open_upright`.
    reduction: source pixels for each target pixel along the side where there
      are fewest.
  Returns:
    RGB, smaller than the original only if twice the target's resolution is
    left.
  """
  shrink = reduction / _DRAFT_MARGIN
  if shrink >= 2:
    width, height = picture.size
    picture.draft(
      picture.mode, (math.ceil(width / shrink), math.ceil(height / shrink))
    )
  return _rgb(picture)


def size(image: bytes | np.ndarray) -> tuple[int, int]:
  """(height, width) of an image, from the header alone where that suffices."""
  if isinstance(image, np.ndarray):
    return image.shape[0], image.shape[1]
  width, height = Image.open(io.BytesIO(image)).size
  return height, width


def storable(data: bytes) -> bytes:
  """Checks an image file to its last pixel.

  Args:
    data: the bytes of the file.
  Returns:
    The same bytes if they hold upright opaque 8-bit grey or RGB, which every
    reader sees alike, else a PNG of `decode(data)`.
  Raises:
    ValueError: with the reason why the file cannot be used.
  """
  try:
    picture = Image.open(io.BytesIO(data))
    upright = picture.getexif().get(_ORIENTATION, 1) == 1
    picture.load()
    if picture.mode in ("L", "RGB") and upright and not _transparent(picture):
      return data
    return encode_png(decode(data))
  except Image.UnidentifiedImageError:
    raise ValueError(
      "empty file" if not data else "not an image that Pillow can read"
    ) from None
  except Exception as error:  # damaged files raise nearly anything
    raise ValueError(f"{type(error).__name__}: {error}") from error


def encode_png(pixels: np.ndarray) -> bytes:
  """uint8 [height, width, 3] or [height, width] to the bytes of a PNG."""
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, "PNG")
  return stream.getvalue()


def _three_channels(pixels: np.ndarray) -> np.ndarray:
  if pixels.ndim == 2:
    pixels = pixels[..., None]
  if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
    raise ValueError(
      f"image: expected [height, width, 1 or 3], got {list(pixels.shape)}"
    )
  if pixels.dtype != np.uint8:
    raise ValueError(f"image: expected uint8, got {pixels.dtype}")
  if pixels.shape[2] == 1:
    pixels = np.repeat(pixels, 3, axis=2)
  return pixels


def _transparent(picture: Image.Image) -> bool:
  return picture.mode.upper() in ("RGBA", "LA", "PA") or (
    "transparency" in picture.info
  )


def _rgb(picture: Image.Image) -> Image.Image:
  if picture.mode == "RGB" and "transparency" not in picture.info:
    picture.load()
    return picture
  if picture.mode in _SIXTEEN_BITS:
    levels = np.asarray(picture).astype(np.float64) / 257
    grey = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
  if picture.mode == "F":
    raise ValueError("32-bit float pixels: their range is not in the file")
  if _transparent(picture):
    opaque = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    opaque.alpha_composite(picture.convert("RGBA"))
    return opaque.convert("RGB")
  return picture.convert("RGB")
