"""How PyTorch stores a layer, and how the same layer is stored here.

A `Kind` of layer is a tuple of `Leaf`, one for each of its tensors. Values are
moved, never computed: a change of layout and its inverse are exact.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

import numpy as np

Array = np.ndarray


def _same(x: Array) -> Array:
  return x


def _turned(x: Array) -> Array:
  """[out, in] and [in, out]."""
  return x.T


def _conv_in(x: Array) -> Array:
  """[out, in, h, w] to [h, w, in, out]."""
  return x.transpose(2, 3, 1, 0)


def _conv_out(x: Array) -> Array:
  """[h, w, in, out] to [out, in, h, w]."""
  return x.transpose(3, 2, 0, 1)


def _patch_in(x: Array) -> Array:
  """[width, 3, p, p] to [p p 3, width], the channel fastest."""
  return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])


def _patch_out(x: Array) -> Array:
  """[p p 3, width] to [width, 3, p, p]."""
  side = math.isqrt(x.shape[0] // 3)
  return x.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)


class Leaf(NamedTuple):
  """One tensor of a layer.

  Attributes:
    foreign: its name behind the layer's in PyTorch; "" is the layer's own.
    collection: of ours: "params", "batch_stats", or "kept" for what our
      network has no use for.
    ours: its name behind the layer's here.
    ndim: axes of PyTorch's tensor; a tensor with others is another layer's.
    inwards: PyTorch's values in our layout.
    outwards: the inverse.
    third: of three tensors that are joined here along the last axis, which.
    fits: whether a shape with those axes is one that our layer has.
    default: of a kept one: its value where no file gave one, from the layer's
      other tensors {foreign name: array}; None is left out then.
  """

  foreign: str
  collection: str
  ours: str
  ndim: int
  inwards: Callable[[Array], Array] = _same
  outwards: Callable[[Array], Array] = _same
  third: int | None = None
  default: Callable[[dict[str, Array]], Array] | None = None
  fits: Callable[[tuple[int, ...]], bool] = lambda shape: True


Kind = tuple[Leaf, ...]

_BIAS = Leaf("bias", "params", "bias", 1)
_WEIGHT = Leaf("weight", "params", "kernel", 2, _turned, _turned)
_RUNNING = (
  Leaf("running_mean", "batch_stats", "mean", 1),
  Leaf("running_var", "batch_stats", "var", 1),
  Leaf(
    "num_batches_tracked",
    "kept",
    "num_batches_tracked",
    0,
    default=lambda _: np.zeros((), np.int64),
  ),
)

LINEAR: Kind = (_WEIGHT, _BIAS)
# Its bias is frozen under a BatchNorm that takes it away in training; we have
# none, and the running mean stays that of outputs with it.
LINEAR_FROZEN_BIAS: Kind = (
  _WEIGHT,
  Leaf(
    "bias",
    "kept",
    "bias",
    1,
    default=lambda layer: np.zeros(
      layer["weight"].shape[0], layer["weight"].dtype
    ),
  ),
)
CONV: Kind = (Leaf("weight", "params", "kernel", 4, _conv_in, _conv_out),)
PATCH: Kind = (
  Leaf(
    "weight",
    "params",
    "kernel",
    4,
    _patch_in,
    _patch_out,
    fits=lambda shape: shape[1] == 3 and shape[2] == shape[3],
  ),
  _BIAS,
)
# A classifier elsewhere, which evaluation here has its own of.
CLASSIFIER: Kind = (
  Leaf("weight", "kept", "kernel", 2, _turned, _turned),
  Leaf("bias", "kept", "bias", 1),
)
LAYER_NORM: Kind = (Leaf("weight", "params", "scale", 1), _BIAS)
BATCH_NORM: Kind = (*LAYER_NORM, *_RUNNING)
ARRAY: Kind = (Leaf("", "params", "", 3),)
PROTOTYPES: Kind = (Leaf("weight", "params", "kernel", 2),)
# PyTorch's weight norm, w = g v / |v|; our prototypes are v, and g is 1.
WEIGHT_NORM: Kind = (
  Leaf("weight_v", "params", "kernel", 2),
  Leaf(
    "weight_g",
    "kept",
    "length",
    2,
    default=lambda layer: np.ones(
      (layer["weight_v"].shape[0], 1), layer["weight_v"].dtype
    ),
  ),
)
# Its names since torch 2.0.
PARAMETRIZED: Kind = (
  Leaf("original1", "params", "kernel", 2),
  Leaf("original0", "kept", "length", 2),
)
QUERY, KEY, VALUE = (
  tuple(leaf._replace(third=i) for leaf in LINEAR) for i in range(3)
)

# What belongs to a method: DINO's centre, MoCo's queue and where it is written
# next, DeepCluster's centroids.
ROW: Kind = (Leaf("", "carry", "", 2, lambda x: x[0], lambda x: x[None]),)
LIGHTLY_ROW: Kind = (
  Leaf("", "carry", "", 3, lambda x: x[0, 0], lambda x: x[None, None]),
)
COLUMNS: Kind = (Leaf("", "carry", "", 2, _turned, _turned),)
POINTER: Kind = (
  Leaf(
    "",
    "carry",
    "",
    1,
    lambda x: x.reshape(()),
    lambda x: x.reshape(1).astype(np.int64),
  ),
)
CENTROIDS: Kind = (Leaf("weight", "carry", "", 2),)
