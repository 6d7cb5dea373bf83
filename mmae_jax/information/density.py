"""Checks of values: is this array a matrix whose entropy is defined?"""

import jax
import numpy as np

from mmae_jax.information import checks, spectra

# How far a product of that precision may be from symmetric or semi-definite,
# as a share of its largest entry.
_TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
_COARSE_TOLERANCE = 2e-2  # bfloat16, float16
_KINDS = ("trace", "diagonal", "any")


def check_density(k, *, kind="trace", tolerance=None):
  """Checks that a matrix is one whose entropies are defined.

  Args:
    k: [n, n] array of values; not for use under `jax.jit`.
    kind: "trace": symmetric, positive semi-definite, trace 1 (a density
      matrix); "diagonal": diagonal 1 (a normalised Gram matrix, n times a
      density matrix); "any": only symmetric and semi-definite, not zero.
    tolerance: how far from each property is round-off, as a share of the
      largest entry; by default 1e-10 in float64, 1e-5 in float32.
  Returns:
    k, unchanged.
  Raises:
    ValueError: k is traced, not a square floating-point matrix, not finite,
      not symmetric, not positive semi-definite, zero, or its trace or
      diagonal is off; the message says by how much.
  Source:
    The domain of Tan et al. 2023 (arXiv 2309.17281) and Zhang et al. 2023
    (arXiv 2305.17326).
  """
  if isinstance(k, jax.core.Tracer):
    raise ValueError(
      "k is traced: check_density reads values, so call it outside jit and"
      " pass what it returns"
    )
  if kind not in _KINDS:
    raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
  checks.check_square("k", k)
  if tolerance is None:
    tolerance = _TOLERANCE.get(str(k.dtype), _COARSE_TOLERANCE)
  values = np.asarray(k, np.float64)
  bad = np.argwhere(~np.isfinite(values))
  if len(bad):
    i, j = bad[0]
    raise ValueError(f"k must be finite, got k[{i}, {j}] = {values[i, j]}")
  largest = np.abs(values).max()
  if largest == 0:
    raise ValueError("k is the zero matrix: it has no entropy")
  skew = np.abs(values - values.T).max()
  if skew > tolerance * largest:
    raise ValueError(
      f"k must be symmetric, got max |k - k^T| = {skew:.3g}; a Gram matrix is"
      " made by information.gram"
    )
  eigenvalues = np.linalg.eigvalsh((values + values.T) / 2)
  if eigenvalues[0] < -tolerance * eigenvalues[-1]:
    raise ValueError(
      "k must be positive semi-definite, got the eigenvalue"
      f" {eigenvalues[0]:.3g} beside the largest {eigenvalues[-1]:.3g}"
    )
  trace = np.trace(values)
  if kind == "trace" and abs(trace - 1) > tolerance * len(values):
    raise ValueError(
      f"k must have trace 1, got {trace:.6g}; information.unit_trace divides"
      " by it"
    )
  off = np.abs(np.diagonal(values) - 1)
  if kind == "diagonal" and off.max() > tolerance:
    i = int(off.argmax())
    raise ValueError(
      f"k must have a diagonal of ones, got k[{i}, {i}] = {values[i, i]:.6g};"
      " information.unit_diagonal scales it"
    )
  return k


def density_matrix(k):
  """Density matrix of any symmetric positive semi-definite matrix.

      k / tr k

  Args:
    k: [n, n] array of values; not for use under `jax.jit`, where `unit_trace`
      does the same without reading values.
  Returns:
    [n, n], symmetric, semi-definite, trace one, at least float32.
  Raises:
    ValueError: as `check_density`.
  Source:
    Density matrices in Zhang et al. 2023, https://arxiv.org/abs/2305.17326.
  """
  return spectra.unit_trace(check_density(k, kind="any"))
