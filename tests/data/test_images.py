"""Every kind of image becomes upright 8-bit RGB."""

import io

import numpy as np
from PIL import Image
import pytest

from mmae_jax.data import images

_RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def _encode(picture, form="PNG", **kwargs):
  stream = io.BytesIO()
  picture.save(stream, form, **kwargs)
  return stream.getvalue()


def _rotated():
  picture = Image.fromarray(_RGB)
  exif = picture.getexif()
  exif[0x0112] = 6  # shown after a quarter turn clockwise
  return _encode(picture, exif=exif)


_KINDS = {
  "rgb": (_encode(Image.fromarray(_RGB)), _RGB),
  "webp": (_encode(Image.fromarray(_RGB), "WEBP", lossless=True), _RGB),
  "rotated": (_rotated(), np.rot90(_RGB, -1)),
  "grey": (_encode(Image.fromarray(_RGB[..., 0])), _RGB[..., :1]),
  "16-bit": (
    _encode(Image.fromarray(_RGB[..., 0].astype(np.uint16) * 257)),
    _RGB[..., :1],
  ),
  "palette": (
    _encode(Image.fromarray(_RGB).quantize(256)),
    np.asarray(Image.fromarray(_RGB).quantize(256).convert("RGB")),
  ),
  "opaque": (
    _encode(Image.fromarray(np.dstack([_RGB, np.full((6, 9), 255, np.uint8)]))),
    _RGB,
  ),
  "transparent": (
    _encode(Image.fromarray(np.dstack([_RGB, np.zeros((6, 9), np.uint8)]))),
    np.full((6, 9, 3), 255),
  ),
  "cmyk": (
    _encode(Image.fromarray(_RGB).convert("CMYK"), "TIFF"),
    np.asarray(Image.fromarray(_RGB).convert("CMYK").convert("RGB")),
  ),
  "bits": (
    _encode(Image.fromarray(_RGB[..., 0] > 127)),
    255 * (_RGB[..., :1] > 127),
  ),
  "one pixel": (_encode(Image.fromarray(_RGB[:1, :1])), _RGB[:1, :1]),
  "pixels": (_RGB, _RGB),
  "grey pixels": (_RGB[..., 0], _RGB[..., :1]),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_decodes_what_the_picture_shows(kind):
  source, expected = _KINDS[kind]
  decoded = images.decode(source)
  assert decoded.dtype == np.uint8
  np.testing.assert_array_equal(
    decoded, np.broadcast_to(expected, (*expected.shape[:2], 3))
  )


@pytest.mark.parametrize("kind", [k for k in _KINDS if "pixels" not in k])
def test_stored_bytes_look_the_same(kind):
  data = _KINDS[kind][0]
  stored = images.storable(data)
  np.testing.assert_array_equal(images.decode(stored), images.decode(data))
  as_it_is = {"rgb", "webp", "grey", "one pixel"}
  assert (stored == data) == (kind in as_it_is)
  assert images.storable(stored) == stored


def test_animation_shows_its_first_frame():
  frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
  data = _encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
  np.testing.assert_array_equal(
    images.decode(images.storable(data)), np.full((4, 4, 3), (255, 0, 0))
  )


@pytest.mark.parametrize(
  "data, reason",
  [
    (b"", "empty file"),
    (b"hello", "not an image"),
    (_encode(Image.fromarray(_RGB), "JPEG")[:-30], "truncated"),
    (_encode(Image.fromarray(_RGB))[:-30], ""),
    (_encode(Image.fromarray(np.float32(_RGB[..., 0])), "TIFF"), "float"),
  ],
)
def test_rotten_files_have_a_reason(data, reason):
  with pytest.raises(ValueError, match=f"(?i){reason}"):
    images.storable(data)


def test_pixels_of_another_kind_are_refused():
  with pytest.raises(ValueError, match=r"\[2, 2, 4\]"):
    images.decode(np.zeros((2, 2, 4), np.uint8))
  with pytest.raises(ValueError, match="float32"):
    images.decode(np.zeros((2, 2, 3), np.float32))
