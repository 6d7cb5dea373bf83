"""Cases of mmae_jax.information, for the suite `losses`."""

from collections.abc import Iterator
import dataclasses
import math

import numpy as np
from torch_reference import information as references

from mmae_jax import information
from mmae_jax.information import bounds
from parity_suites.loss_cases import Case, branches

_FULL_RANK = ("random", "huge", "tiny")
# Unit diagonals have no other scale.
_UNIT = ("random", "wide", "near collapse", "collapsed")
_SMALL = (
  1e-4,
  "absolute; near collapse all eigenvalues but one are 1e-6: rounding of the"
  " matrix, in float32",
)
_DIFFERENCE = (
  1e-4,
  "ill-conditioned: of huge ones the difference of entropies twenty times as"
  " large",
)


@dataclasses.dataclass(frozen=True)
class Measure(Case):
  """A function of mmae_jax.information; `method` is its name."""

  @property
  def title(self):
    return self.method if self.gradient else f"{self.method} (eigenvalues)"

  @property
  def ours(self):
    module = bounds if hasattr(bounds, self.method) else information
    return getattr(module, self.method)

  @property
  def theirs(self):
    return getattr(references, self.method)


def _grams(*names):
  """Grams of unit rows, [rows, rows], perhaps rank one; or much larger ones."""

  def inputs(rng, kind):
    found = {}
    for name, z in branches(*names)(rng, kind).items():
      z = z / np.linalg.norm(z, axis=1, keepdims=True)
      found[name] = {"huge": 1e8, "tiny": 1e-8}.get(kind, 1.0) * (z @ z.T)
    return found

  return inputs


def _moments(*names):
  """Second moments plus a ridge, [dim, dim], of any trace, full rank.

  PyTorch's gradient of eigenvalues is not finite where some are equal.
  """

  def inputs(rng, kind):
    found = {}
    for name, z in branches(*names)(rng, "random").items():
      scale = {"huge": 1e3, "tiny": 1e-3}.get(kind, 1.0)
      found[name] = scale * (z.T @ z / len(z) + 0.1 * np.eye(z.shape[1]))
    return found

  return inputs


def _contractions(*names):
  """Matrices whose eigenvalues are within the Taylor series' reach of one."""

  def inputs(rng, kind):
    del kind
    found = {}
    for name, z in branches(*names)(rng, "random").items():
      k = z.T @ z
      found[name] = 0.5 * np.eye(len(k)) + k / np.trace(k)
    return found

  return inputs


def cases() -> Iterator[Measure]:
  """All of them. Entropies but those of order 2 are without a gradient."""
  pair = _grams("k1", "k2")
  for order in (1.0, 3.0, math.inf):
    keys = {"order": order}
    yield Measure(
      "matrix_entropy",
      _grams("k"),
      keys,
      gradient=False,
      terms=1.0,
      hard_value={"near collapse": _SMALL},
    )
  yield Measure("matrix_entropy", _grams("k"), {"order": 2}, terms=1.0)
  for name in ("joint_entropy", "mutual_information", "conditional_entropy"):
    yield Measure(
      name,
      pair,
      {"order": 1.0},
      gradient=False,
      terms=1.0,
      hard_value={"near collapse": _SMALL},
      kinds=_UNIT,
    )
    yield Measure(name, pair, {"order": 2}, terms=1.0, kinds=_UNIT)
  yield Measure("effective_rank", branches("z"), gradient=False)
  yield Measure(
    "unnormalised_entropy", _moments("a"), kinds=_FULL_RANK, terms=1.0
  )
  yield Measure(
    "matrix_kl",
    _moments("p", "q"),
    kinds=_FULL_RANK,
    hard_value={"huge": _DIFFERENCE},
  )
  yield Measure(
    "matrix_cross_entropy",
    _moments("p", "q"),
    {"plus_trace": True, "method": "eigh"},
    kinds=_FULL_RANK,
    terms=1.0,
  )
  yield Measure(
    "matrix_cross_entropy",
    _contractions("p", "q"),
    {"plus_trace": False, "method": "taylor", "order": 4},
    kinds=("random",),
    terms=1.0,
  )
  yield Measure("total_coding_rate", branches("z"), {"epsilon_squared": 0.2})
  yield Measure("spectral_loss", branches("z1", "z2"), {"weight": 0.5})
  spread = ("random", "wide", "huge", "tiny")
  yield Measure(
    "barlow_loss", branches("z1", "z2"), {"weight": 0.0051}, kinds=spread
  )
