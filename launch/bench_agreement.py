"""How far Matrix-SSL's loss is from the dense form, in value and gradient."""

import bench_dense
import bench_forms
from bench_targets import DENSE, MATRIX_SSL, MATRIX_SSL_SIZE
import jax
import numpy as np

_SMALL = (64, 96)  # in float64, and with the other side the smaller


def agreement(entries: list[dict]) -> list[dict]:
  """Distances between ours, the dense form, and ours in float64.

  Args:
    entries: of the bench; the dense form is computed in float32 where it was
      measured, at the size of the target or the largest.
  Returns:
    [{"size", "dtype", "what", "value", "gradient"}]: relative distances, that
    of gradients in the Frobenius norm.
  """
  found = []
  for size in (_SMALL, _SMALL[::-1]):
    ours = _result(bench_forms.matrix_ssl, size, "float64")
    dense = _result(bench_dense.matrix_ssl, size, "float64")
    found.append(_distance(size, "float64", "ours to dense", ours, dense))
  measured = {
    (entry["batch"], entry["dim"])
    for entry in entries
    if (entry["quantity"], entry["form"]) == (MATRIX_SSL, DENSE)
    and entry["gradient"]
    and not entry["extrapolated"]
  }
  if not measured:
    return found
  size = max(measured, key=lambda s: (s == MATRIX_SSL_SIZE, s[0] * s[1]))
  ours = _result(bench_forms.matrix_ssl, size, "float32")
  dense = _result(bench_dense.matrix_ssl, size, "float32")
  exact = _result(bench_forms.matrix_ssl, size, "float64")
  found += [
    _distance(size, "float32", "ours to dense", ours, dense),
    _distance(size, "float32", "ours to float64", ours, exact),
    _distance(size, "float32", "dense to float64", dense, exact),
  ]
  return found


def _result(function, size, dtype):
  with jax.enable_x64(dtype == "float64"):
    arrays = [x.astype(dtype) for x in bench_forms.branches(*size)]
    value, gradient = jax.jit(jax.value_and_grad(function, (0, 1)))(*arrays)
    return float(value), np.concatenate([np.asarray(g) for g in gradient])


def _distance(size, dtype, what, one, other):
  (value, gradient), (value_2, gradient_2) = one, other
  norm = np.linalg.norm(gradient_2)
  return {
    "size": size,
    "dtype": dtype,
    "what": what,
    "value": abs(value - value_2) / abs(value_2),
    "gradient": float(np.linalg.norm(gradient - gradient_2) / norm),
  }
