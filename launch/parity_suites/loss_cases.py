"""The losses of the library, their inputs and what they are compared with."""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import importlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from torch_reference import class_losses, losses

from mmae_jax.objectives import clustering, swav

KINDS = {
  "ordinary": ("random", "wide"),
  "hard": ("near collapse", "collapsed", "huge", "tiny"),
}
# kind: (rows, dimensions or classes); "wide" has more dimensions than rows.
_SHAPES = {"wide": (4, 12)}
_SHAPE = (8, 5)
_VIEWS = 4


@dataclasses.dataclass(frozen=True)
class Case:
  """One loss with one choice of its hyperparameters.

  Attributes:
    method: name of the objective's file, and of the reference.
    inputs: (rng, kind) -> {name: array}, all differentiated.
    keys: hyperparameters.
    fixed: (rng, rows) -> {name: array} that are not differentiated.
    terms: size of the terms of which the value is the difference.
    hard: {kind: (float32's tolerance of the gradient, why it is not the usual
      one)}; `hard_value` of the value.
    kinds: of inputs.
    gradient: whether there is one to compare.
  """

  method: str
  inputs: Callable[..., dict[str, np.ndarray]]
  keys: dict[str, Any] = dataclasses.field(default_factory=dict)
  fixed: Callable[..., dict[str, np.ndarray]] | None = None
  terms: float = 0.0
  hard: Mapping[str, tuple[float, str]] = dataclasses.field(
    default_factory=dict
  )
  hard_value: Mapping[str, tuple[float, str]] = dataclasses.field(
    default_factory=dict
  )
  kinds: tuple[str, ...] = (*KINDS["ordinary"], *KINDS["hard"])
  gradient: bool = True

  @property
  def title(self) -> str:
    """What the report calls it."""
    return f"{self.method}_loss"

  @property
  def ours(self) -> Callable[..., Any]:
    """The loss of the objective's file."""
    if self.method == "swav":
      return _swav
    module = importlib.import_module(f"mmae_jax.objectives.{self.method}")
    return getattr(module, f"{self.method}_loss")

  @property
  def theirs(self) -> Callable[..., Any]:
    """The reference in PyTorch."""
    for module in (losses, class_losses):
      if hasattr(module, self.method):
        return getattr(module, self.method)
    raise ValueError(f"no reference for {self.method}")


# --- inputs


def _matrices(rng, kind, count):
  """Branches of one batch, [rows, dim]: related, as two views are."""
  rows, dim = _SHAPES.get(kind, _SHAPE)
  base = rng.normal(size=(rows, dim))
  found = []
  for _ in range(count):
    z = base + 0.5 * rng.normal(size=(rows, dim))
    if kind in ("collapsed", "near collapse"):
      # Each branch at a point of its own, of few bits: the mean of 8 such rows
      # is exact. Else Barlow Twins multiplies its rounding by 316 twice, in
      # PyTorch too.
      spread = 1e-3 if kind == "near collapse" else 0.0
      z = np.round(16 * rng.normal(size=(1, dim))) / 16 + spread * z
    found.append(z * {"huge": 1e4, "tiny": 1e-4}.get(kind, 1.0))
  return found


def branches(*names):
  """Inputs of these names: `_matrices`."""

  def inputs(rng, kind):
    return dict(zip(names, _matrices(rng, kind, len(names)), strict=True))

  return inputs


def _masked(rng, kind):
  (features,) = _matrices(rng, kind, 1)
  return {"errors": rng.uniform(size=len(features)), "features": features}


def _with_queue(rng, kind):
  inputs = branches("queries", "keys")(rng, kind)
  dim = inputs["keys"].shape[1]
  return inputs | {"queue": rng.normal(size=(7, dim))}


def scores(*names):
  """[rows, views, classes]: cosines, or much larger or smaller numbers."""

  def inputs(rng, kind):
    rows, classes = _SHAPES.get(kind, _SHAPE)
    found = {}
    for name in names:
      views = 2 if name == "teachers" else _VIEWS
      x = rng.uniform(-1, 1, size=(rows, views, classes))
      if kind in ("collapsed", "near collapse"):
        spread = 1e-3 if kind == "near collapse" else 0.0
        x = rng.uniform(-1, 1, size=(1, 1, classes)) + spread * x
      found[name] = x * {"huge": 1e3, "tiny": 1e-4}.get(kind, 1.0)
    return found

  return inputs


def _clusters(rng, rows, classes, weights=True):
  """Assignments, some -1, and weights."""
  own = rng.integers(0, classes, rows)
  own[1] = -1
  found = {"assignments": own.astype(np.int32)}
  return found | {"weights": rng.uniform(0.5, 2, rows) if weights else None}


def _centre(rng, rows, classes):
  del rows
  return {"centre": 0.1 * rng.normal(size=classes)}


# --- the losses


def _swav(scores, *, temperature, epsilon, iterations):
  """Ours, with the codes as `swav.make` makes them: a view at a time."""
  codes = [
    clustering.sinkhorn(scores[:, v], epsilon=epsilon, iterations=iterations)
    for v in range(2)
  ]
  return swav.swav_loss(
    scores, jnp.stack(codes, axis=1), temperature=temperature
  )


_PAIR = branches("z1", "z2")
_FOUR = branches("p1", "p2", "z1", "z2")
_DINO = dict(student_temperature=0.1, teacher_temperature=0.04)
_ER = dict(kappa=10.0, estimator="plugin", entropy_scope=None, symmetric=True)
_MATRIX = dict(
  uniformity=1.0,
  ridge=1.0,
  gamma=1.0,
  order=4,
  form="program",
  symmetrise=False,
)
_MMAE = dict(weight=0.1, scale=1.0, centre=False, normaliser="feature_dim")
_ALIKE = (
  "ill-conditioned: of tiny scores all probabilities are alike, and the"
  " gradient is their difference, 1e-3 of them"
)
_LARGE = (
  "ill-conditioned: huge scores over 0.04 are logits of 25,000, which float32"
  " rounds to 1e-3"
)
_CATEGORIES = dict(entropy_scope=None, entropy_views="global")


def cases() -> Iterator[Case]:
  """All of them; a loss may come more than once."""
  yield Case(
    "mae",
    lambda rng, kind: {"errors": _masked(rng, kind)["errors"]},
    kinds=("random",),
  )
  yield Case("umae", _masked, {"weight": 0.1})
  for changes in (
    {},
    {"scale": 3.0, "centre": True, "normaliser": "batch"},
    {"scale": 2.0, "normaliser": "paper"},
  ):
    yield Case("mmae", _masked, _MMAE | changes)
  yield Case("simclr", _PAIR, {"temperature": 0.1}, terms=10.0)
  yield Case("byol", _FOUR)
  yield Case("simsiam", _FOUR)
  yield Case("barlow_twins", _PAIR, {"off_diagonal_weight": 0.0051})
  weights = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
  yield Case("vicreg", _PAIR, weights)
  yield Case("spectral_contrastive", _PAIR, {"squared_radius": 5.0})
  for order, length in ((4, 8.0), (None, 12.0)):
    yield Case("mec", _FOUR, {"order": order, "lambda_inverse": length})
  for changes in (
    {},
    {"form": "paper", "ridge": 0.5, "gamma": 0.6, "order": 5},
    {"symmetrise": True, "uniformity": 0.5},
  ):
    yield Case("matrix_ssl", _FOUR, _MATRIX | changes, terms=1.0)
  yield Case("moco_v2", _with_queue, {"temperature": 0.2})
  keys = branches("q1", "q2", "k1", "k2")
  yield Case("moco_v3", keys, {"temperature": 0.2})
  six = branches("p1", "p2", "z1", "z2", "t1", "t2")
  for method, inputs in (("simclr_er", _PAIR), ("byol_er", six)):
    for changes in (
      {},
      {"estimator": "joe", "entropy_scope": 4, "symmetric": False},
    ):
      yield Case(method, inputs, _ER | changes, terms=10.0)
  pair = scores("students", "teachers")
  yield Case("dino", pair, _DINO, _centre)
  for changes in (
    {"symmetric": False},
    {"symmetric": True, "entropy_scope": 4, "entropy_views": "all"},
  ):
    yield Case(
      "dino_er",
      pair,
      _DINO | _CATEGORIES | changes,
      _centre,
      terms=1.0,
      hard={"huge": (1e-2, _LARGE)},
    )
  one = scores("scores")
  keys = {"temperature": 0.1, "epsilon": 0.05, "iterations": 3}
  yield Case("swav", one, keys, hard={"tiny": (2e-3, _ALIKE)})
  keys = {"temperature": 0.1} | _CATEGORIES
  yield Case(
    "swav_er",
    one,
    keys | {"target_temperature": 0.05},
    terms=1.0,
    hard={"tiny": (2e-3, _ALIKE)},
  )
  for weighted in (False, True):
    yield Case(
      "deepcluster",
      one,
      {"temperature": 0.1},
      functools.partial(_clusters, weights=weighted),
    )
  yield Case("deepcluster_er", one, keys, _clusters, terms=1.0)
