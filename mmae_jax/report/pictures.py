"""Sections made of images: reconstructions and nearest neighbours."""

from collections.abc import Sequence
import io

from markupsafe import Markup
import numpy as np

from mmae_jax.report.quantities import GREEN, RED
from mmae_jax.report.run import Run
from mmae_jax.report.section import Section, data_url, figure, lead

_COLUMNS = 14
_QUERIES = 8
_NEIGHBOURS = 8
_GAP = 4
_BORDER = 3


def reconstructions(run: Run) -> Section:
  """Image, masked and reconstructed in rows; the first attempt as well."""
  title = "Reconstructions"
  found = run.artifacts("reconstruction")
  if not found:
    several = run.get("views", "global", "count", default=1) > 1
    note = "the method compares views" if several else "none were recorded"
    return Section(title, note=note)
  step, last = found[-1]
  rows = [("image", last["image"]), ("masked", last["masked"])]
  if len(found) > 1 and np.array_equal(found[0][1]["image"], last["image"]):
    first_step, first = found[0]
    rows.append((f"at step {first_step:,}", first["reconstructed"]))
  rows.append((f"at step {step:,}", last["reconstructed"]))
  strips = [
    _strip([tile(image, 72) for image in images[:_COLUMNS]])
    for _, images in rows
  ]
  png = to_png(_stack(strips))
  labels = Markup("").join(
    Markup("<span>{}</span>").format(label) for label, _ in rows
  )
  picture = Markup(
    '<div class="rows"><div class="labels">{}</div>'
    '<img class="{}" src="{}" alt="{}"></div>'
  ).format(
    labels,
    _kind(last["image"]),
    data_url(png),
    "Rows: " + ", ".join(label for label, _ in rows),
  )
  text = lead("Held-out images, what the encoder saw, what the decoder made.")
  return Section(title, text + picture, {"reconstructions": png})


def neighbours(run: Run) -> Section:
  """Each query and the images whose features are nearest to its own."""
  title = "Nearest neighbours"
  found = run.artifacts("neighbours")
  if not found:
    return Section(title, note="no nearest neighbours were recorded")
  step, data = found[-1]
  queries = data["query"][:_QUERIES]
  near = data["neighbours"][:_QUERIES, :_NEIGHBOURS]
  wanted = data["query_label"][:_QUERIES]
  given = data["neighbour_label"][:_QUERIES, :_NEIGHBOURS]
  labelled = (wanted[:, None] >= 0) & (given >= 0)
  agrees = labelled & (wanted[:, None] == given)
  strips = []
  for i, query in enumerate(queries):
    tiles = [bordered(tile(query, 56))]
    tiles.append(np.full((len(tiles[0]), 6, 3), 255, np.uint8))
    for j, image in enumerate(near[i]):
      mark = bool(agrees[i, j]) if labelled[i, j] else None
      tiles.append(bordered(tile(image, 56), agrees=mark))
    strips.append(_strip(tiles))
  # Two queries a row: the page is wider than one query with its neighbours.
  space = np.full((len(strips[0]), 28, 3), 255, np.uint8)
  pairs = [
    np.concatenate([strips[i], space, strips[i + 1]], axis=1)
    if i + 1 < len(strips)
    else strips[i]
    for i in range(0, len(strips), 2)
  ]
  png = to_png(_stack(pairs))
  text = lead(
    "First of each group: a held-out query; then its nearest training images "
    "in feature space, nearest first, at step {:,}.",
    step,
  )
  if labelled.any():
    text += lead(
      '<b class="good">Solid green</b>: the query\'s label. '
      '<b class="bad">Dashed red</b>: another. '
      "{} of the {} shown agree.",
      int(agrees.sum()),
      int(labelled.sum()),
    )
  picture = figure(png, alt="Queries and their neighbours", kind=_kind(queries))
  return Section(title, text + picture, {"neighbours": png})


def tile(image: np.ndarray, size: int) -> np.ndarray:
  """An image whose longer side is about `size`, small ones in whole pixels.

  Args:
    image: uint8 [height, width, 3] or [height, width].
    size: wanted length of the longer side in pixels.
  Returns:
    uint8 [side, side, 3], centred on white; `side` is the longer side.
  """
  from PIL import Image

  image = np.asarray(image, np.uint8)
  if image.ndim == 2 or image.shape[-1] == 1:
    image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=-1)
  longer = max(image.shape[:2])
  if longer <= size:
    times = size // longer
    image = image.repeat(times, axis=0).repeat(times, axis=1)
  else:
    width = max(1, round(image.shape[1] * size / longer))
    height = max(1, round(image.shape[0] * size / longer))
    image = np.asarray(
      Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    )
  side = max(image.shape[:2])
  canvas = np.full((side, side, 3), 255, np.uint8)
  top, left = (side - image.shape[0]) // 2, (side - image.shape[1]) // 2
  canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
  return canvas


def bordered(image: np.ndarray, *, agrees: bool | None = None) -> np.ndarray:
  """Frames an image: solid green, dashed red, or white if unknown.

  Args:
    image: uint8 [height, width, 3].
    agrees: whether the labels agree; None if there are none.
  Returns:
    uint8 [height + 6, width + 6, 3].
  """
  height, width = (side + 2 * _BORDER for side in image.shape[:2])
  framed = np.full((height, width, 3), 255, np.uint8)
  if agrees is not None:
    framed[:] = _rgb(GREEN if agrees else RED)
  if agrees is False:
    # Dashes tell the two apart without colour and in print.
    rows, columns = np.indices((height, width))
    framed[(rows + columns) // 6 % 2 == 1] = 255
  framed[_BORDER:-_BORDER, _BORDER:-_BORDER] = image
  return framed


def to_png(image: np.ndarray) -> bytes:
  """uint8 [height, width, 3] as PNG bytes."""
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(image).save(file, format="PNG", optimize=True)
  return file.getvalue()


def _kind(images: np.ndarray) -> str:
  """Small images keep their sharp pixels however the page scales them."""
  return "mosaic pixels" if max(images.shape[1:3]) <= 64 else "mosaic"


def _strip(tiles: Sequence[np.ndarray]) -> np.ndarray:
  """Tiles of one height beside one another, with gaps."""
  space = np.full((len(tiles[0]), _GAP, 3), 255, np.uint8)
  parts = [part for image in tiles for part in (image, space)]
  return np.concatenate(parts[:-1], axis=1)


def _stack(strips: Sequence[np.ndarray]) -> np.ndarray:
  """Strips below one another, padded with white to one width."""
  width = max(strip.shape[1] for strip in strips)
  parts = [
    np.pad(
      strip,
      ((0, _GAP), (0, width - strip.shape[1]), (0, 0)),
      constant_values=255,
    )
    for strip in strips
  ]
  return np.concatenate(parts, axis=0)


def _rgb(colour: str) -> tuple[int, ...]:
  return tuple(bytes.fromhex(colour[1:]))
