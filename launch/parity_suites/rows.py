"""Rows of launch/parity.py: what was compared, how far apart, the verdict."""

from collections.abc import Mapping
import dataclasses
import importlib
import importlib.util
import math
from typing import Any

import jax
import numpy as np

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"
PRECISIONS = ("float64", "float32")
OURS = "own torch reference"  # a few lines of PyTorch from the mathematics


@dataclasses.dataclass(frozen=True)
class Row:
  """One comparison.

  Attributes:
    suite: part of the report.
    what: of ours.
    other: the other implementation and its version.
    precision: of both, unless `other` says more.
    tolerance: of the error, relative unless a note says otherwise.
    error: the largest; inf where shapes differ or a number is not finite.
    verdict: `PASSED`, `FAILED` or `SKIPPED`.
    where: which tensor, layer, step or case has the largest error.
    first: of a row by layers, the first above the tolerance; "" is none.
    note: why the tolerance is what it is, or why the row was skipped.
    errors: all that the largest was taken of, by name.
    curve: errors by layer or step, in order; drawn on the page.
  """

  suite: str
  what: str
  other: str
  precision: str
  tolerance: float
  error: float
  verdict: str
  where: str = ""
  first: str | None = None
  note: str = ""
  errors: dict[str, float] = dataclasses.field(default_factory=dict)
  curve: tuple[float, ...] = ()


def compared(
  suite: str,
  what: str,
  other: str,
  precision: str,
  errors: Mapping[str, float] | float,
  tolerance: float,
  *,
  by_layer: bool = False,
  note: str = "",
  curve: Any = (),
) -> Row:
  """A row out of its errors.

  Args:
    suite, what, other, precision, tolerance, note: as in `Row`.
    errors: one, or several by name, in order.
    by_layer: the errors are those of layers, from the first to the last.
    curve: errors by step.
  Returns:
    The row; it passes if no error is above the tolerance.
  Raises:
    ValueError: there are no errors: nothing was compared.
  """
  if not isinstance(errors, Mapping):
    errors = {"": errors}
  if not errors:
    raise ValueError(f"{what}: nothing was compared")
  errors = {
    name: float(e) if e == e else math.inf for name, e in errors.items()
  }
  where = max(errors, key=errors.get)
  first = None
  if by_layer:
    first = next((n for n, e in errors.items() if e > tolerance), "")
    curve = tuple(errors.values())
  return Row(
    suite=suite,
    what=what,
    other=other,
    precision=precision,
    tolerance=tolerance,
    error=errors[where],
    verdict=PASSED if errors[where] <= tolerance else FAILED,
    where=where,
    first=first,
    note=note,
    errors=errors if len(errors) > 1 else {},
    curve=tuple(float(e) for e in curve),
  )


def missing(suite: str, what: str, name: str, reason: str) -> Row:
  """A row of what could not be compared, since a package does not import.

  Where it is there, but broken, and of the extra `torch`, the row has failed.
  """
  broken = name == "transformers" and importlib.util.find_spec(name)
  verdict = FAILED if broken else SKIPPED
  return Row(suite, what, name, "", math.nan, math.nan, verdict, note=reason)


def package(name: str) -> tuple[Any, str]:
  """A package that need not be there.

  Args:
    name: of the module.
  Returns:
    (module, "name version"), or (None, why it cannot be imported). What a
    broken installation raises is a reason too.
  """
  try:
    module = importlib.import_module(name)
  except Exception as error:
    line = (str(error).splitlines() or [""])[0]
    return None, f"import {name}: {type(error).__name__}: {line}"
  return module, f"{name} {getattr(module, '__version__', '')}"


# --- errors


def error(ours: Any, theirs: Any, *, scale: float | None = None) -> float:
  """Largest difference over the largest of theirs.

  Args:
    ours: array.
    theirs: array of the same shape.
    scale: what the difference is divided by; None is the largest of theirs.
  Returns:
    The error; inf where shapes differ or a number is not finite.
  """
  ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
  if ours.shape != theirs.shape:
    return math.inf
  if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
    return math.inf
  if scale is None:
    scale = np.max(np.abs(theirs), initial=0.0)
  return _over(np.max(np.abs(ours - theirs), initial=0.0), scale)


def _over(difference, scale):
  if not difference:
    return 0.0
  return float(difference / scale) if scale else math.inf


def tree_errors(
  ours: Mapping[str, Any],
  theirs: Mapping[str, Any],
  *,
  floor: float = 0.0,
) -> dict[str, float]:
  """Errors of tensors by name, by the rule of equality.

      ||ours - theirs|| / (||theirs|| + 1e-3 ||all of theirs||)

  A key's bias, and a bias before BatchNorm, has no gradient in theory: its own
  norm is rounding.

  Args:
    ours: arrays by name.
    theirs: arrays by name.
    floor: at least this stands for the norm of all of theirs.
  Returns:
    {name: error}; inf where a name, shape or finite number is missing.
  """
  # One tensor at a time: those of ViT-L fill gigabytes.
  squares = (np.sum(np.square(x, dtype=np.float64)) for x in theirs.values())
  norm = max(math.sqrt(sum(squares)), floor)
  found = {}
  for name in dict.fromkeys([*theirs, *ours]):
    x, y = ours.get(name), theirs.get(name)
    if x is None or y is None or np.shape(x) != np.shape(y):
      found[name] = math.inf
      continue
    x, y = (np.asarray(z, np.float64).ravel() for z in (x, y))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
      found[name] = math.inf
      continue
    difference = np.linalg.norm(x - y)
    scale = np.linalg.norm(y) + 1e-3 * norm
    found[name] = _over(difference, scale)
  return found


def flat(tree: Any, before: str = "") -> dict[str, np.ndarray]:
  """A nested dictionary's arrays by path, "encoder/norm/scale"."""
  return {
    before + "/".join(str(key.key) for key in path): np.asarray(x)
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }
