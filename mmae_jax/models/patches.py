"""Images as patches, patches as images, and where a patch stands."""

import jax
import numpy as np

Array = jax.Array


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


def unpatchify(patches: Array, patch_size: int) -> Array:
  """The inverse of `patchify` for square RGB images.

  Args:
    patches: [batch, grid^2, patch_size^2 * 3].
    patch_size: side of a patch in pixels.
  Returns:
    [batch, grid * patch_size, grid * patch_size, 3].
  Raises:
    ValueError: the number of patches is not a square, or the entries of a
      patch do not fit.
  """
  batch, length, entries = patches.shape
  grid = round(length**0.5)
  if grid**2 != length or entries != 3 * patch_size**2:
    raise ValueError(
      f"expected [batch, grid^2, {3 * patch_size**2}], got {patches.shape}"
    )
  x = patches.reshape(batch, grid, grid, patch_size, patch_size, 3)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, grid * patch_size, grid * patch_size, 3)


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


def resize_positions(grid: int, new_grid: int) -> np.ndarray:
  """The linear map that brings positions of one grid to another.

  Bicubic with the coefficient -3/4, whose pixels are areas ("align_corners"
  False) and which is not antialiased: PyTorch's `interpolate`, by which the
  programs of MAE and DINO change the resolution (DINO's asks for a factor that
  is 0.1 / grid too large, against rounding, and so samples a little closer).

  Args:
    grid: tokens along one side.
    new_grid: tokens along one side afterwards.
  Returns:
    [new_grid^2, grid^2], float64; rows sum to 1. The class token is not in it.
  """
  # Where the new tokens lie among the old; the edge is repeated outside.
  at = (np.arange(new_grid) + 0.5) * grid / new_grid - 0.5
  first = np.floor(at).astype(int) - 1
  line = np.zeros((new_grid, grid))
  for k in range(4):
    weights = _cubic(np.abs(at - (first + k)))
    np.add.at(
      line,
      (np.arange(new_grid), np.clip(first + k, 0, grid - 1)),
      weights,
    )
  return np.kron(line, line)


def _cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
  """Keys' cubic convolution kernel at distances below 2."""
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = a * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, far)
