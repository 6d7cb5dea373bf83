"""Boxes, resizes and the reduced reading of JPEGs."""

import io

import numpy as np
from PIL import Image
import pytest

from mmae_jax import config as config_lib
from mmae_jax.data import crops
from mmae_jax.types import UsageError


def _views(**keys):
  views = config_lib.base().views
  views["global"].update({"size": 8, **keys})
  return crops.read_views(views)


def _smooth(height, width):
  y, x = np.mgrid[:height, :width] / max(height, width)
  waves = [np.sin(9 * x + 3 * y), np.cos(7 * y), np.sin(5 * x * y + 1)]
  return np.uint8(127.5 + 100 * np.stack(waves, -1))


def _jpeg(pixels):
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, "JPEG", quality=95)
  return stream.getvalue()


@pytest.mark.parametrize(
  "size", [(1, 1), (5, 3), (8, 8), (500, 375), (1, 9999)]
)
def test_boxes_lie_inside(size):
  view = _views()["global"]
  rng = np.random.default_rng(0)
  for _ in range(200):
    (left, top, right, bottom), _ = crops.random_box(rng, size, view)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


def test_boxes_are_distributed_as_asked():
  view = _views()["global"]
  rng = np.random.default_rng(0)
  # In a large image nearly every first attempt fits only if it is narrow
  # enough; the share of area is therefore compared below its upper part.
  boxes, flips = zip(
    *(crops.random_box(rng, (4000, 4000), view) for _ in range(4000)),
    strict=True,
  )
  left, top, right, bottom = np.array(boxes).T
  width, height = right - left, bottom - top
  area = width * height / 4000**2
  assert area.min() > 0.199 and area.max() <= 1
  low = area[area < 0.7]
  assert abs(np.mean(low) - 0.45) < 0.01
  shape = np.log(width / height)[area < 0.7]
  assert abs(shape.mean()) < 0.02
  np.testing.assert_allclose(shape.std(), np.log(16 / 9) / 12**0.5, rtol=0.03)
  assert abs(np.mean(flips) - 0.5) < 0.03


def test_long_images_fall_back_to_the_centre():
  view = _views()["global"]
  (left, top, right, bottom), _ = crops.random_box(
    np.random.default_rng(0), (1000, 9), view
  )
  assert (top, bottom, right - left, left) == (0, 9, 12, 494)


def test_view_is_the_cut_resized_by_pillow():
  image = _smooth(40, 30)
  views = _views(count=3)
  cuts = crops.random_views(np.random.default_rng(5), image, views)["global"]
  rng = np.random.default_rng(5)
  for cut in cuts:
    box, flip = crops.random_box(rng, (30, 40), views["global"])
    expected = Image.fromarray(image).crop(box)
    expected = expected.resize((8, 8), Image.Resampling.BICUBIC)
    expected = np.asarray(expected)[:, :: -1 if flip else 1]
    np.testing.assert_array_equal(cut, expected)


def test_large_jpeg_is_read_reduced_and_looks_the_same():
  data = _jpeg(_smooth(768, 1024))
  views = _views(size=32)
  full = np.asarray(Image.open(io.BytesIO(data)))
  for seed in range(5):
    reduced, whole = (
      crops.random_views(np.random.default_rng(seed), image, views)["global"]
      for image in (data, full)
    )
    assert np.abs(reduced.astype(int) - whole).max() <= 3


@pytest.mark.parametrize(
  "shape", [(8, 8), (40, 30), (30, 41), (1, 1), (3, 999)]
)
@pytest.mark.parametrize("size", [8, 70])
def test_centre_view_equals_resize_then_cut(shape, size):
  image = _smooth(*shape)
  short = size if size <= 64 else size * 256 // 224
  height, width = (short * side // min(shape) for side in shape)
  whole = Image.fromarray(image).resize(
    (width, height), Image.Resampling.BICUBIC
  )
  left, top = round((width - size) / 2), round((height - size) / 2)
  expected = whole.crop((left, top, left + size, top + size))
  view = crops.centre_view(image, size).astype(int)
  assert np.abs(view - np.asarray(expected)).max() <= 1


def test_centre_view_of_a_very_long_image_is_cheap():
  view = crops.centre_view(np.zeros((2, 400_000, 3), np.uint8), 224)
  assert view.shape == (224, 224, 3)


@pytest.mark.parametrize(
  "keys, flag",
  [
    ({"size": 0}, "size"),
    ({"scale": (0.0, 1.0)}, "scale"),
    ({"scale": (0.5, 0.2)}, "scale"),
    ({"ratio": (2.0, 1.0)}, "ratio"),
    ({"flip": 1.5}, "flip"),
    ({"interpolation": "cubic"}, "interpolation"),
    ({"count": 0}, "views"),
  ],
)
def test_views_out_of_range(keys, flag):
  with pytest.raises(UsageError, match=flag):
    _views(**keys)
