"""The suite `losses`: losses and information, in value and gradient.

The gradient is that of all arguments, also of those which have none: a stop in
the wrong place is an error of 1. In float32 ours is compared with PyTorch's
float64 on the same, rounded, inputs: the error is ours alone.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from torch_reference import class_losses

from mmae_jax.objectives import clustering
from parity_suites import information, loss_cases as cases_lib
from parity_suites.networks import precision
from parity_suites.rows import OURS, PRECISIONS, compared, error, tree_errors

SUITE = "losses"
# Of values and gradients.
_TOLERANCES = {"float64": (1e-10, 1e-10), "float32": (1e-5, 1e-4)}


def rows():
  """Rows of values and gradients, ordinary and hard inputs apart."""
  cases: dict[str, list[cases_lib.Case]] = {}
  for case in (*cases_lib.cases(), *information.cases()):
    cases.setdefault(case.title, []).append(case)
  for dtype in PRECISIONS:
    for name, some in cases.items():
      found = {}
      for number, case in enumerate(some):
        with precision(dtype):
          found |= {
            (kind, number): errors for kind, errors in _errors(case, dtype)
          }
      yield from _rows_of(name, dtype, found, some)
    with precision(dtype):
      yield _codes(dtype)


def _rows_of(name, dtype, found, cases):
  first = cases[0]
  compares = ("value", "gradient") if first.gradient else ("value",)
  for i, what in enumerate(compares):
    tolerance, note = _TOLERANCES[dtype][i], ""
    if i == 0 and first.terms:
      note = f"over its terms, {first.terms:g}, where they cancel"
    wider = (first.hard_value, first.hard)[i] if dtype == "float32" else {}
    groups = {
      title: ([k for k in kinds if k not in wider], tolerance, note)
      for title, kinds in cases_lib.KINDS.items()
    }
    groups |= {kind: ([kind], *said) for kind, said in wider.items()}
    for title, (kinds, tolerance, note) in groups.items():
      errors = {}
      for (kind, number), pair in found.items():
        if kind in kinds:
          label = f"{kind}, form {number + 1}" if len(cases) > 1 else kind
          errors[label] = pair[i]
      if errors:
        yield compared(
          SUITE,
          f"{name}: {what}, {title} inputs",
          f"{OURS}, float64" if dtype == "float32" else OURS,
          dtype,
          errors,
          tolerance,
          note=note,
        )


def _errors(case, dtype):
  """(kind, (error of the value, of the gradient)) for each kind of inputs."""
  usual_gradient = 0.0

  def loss(inputs, fixed):
    value = case.ours(**inputs, **fixed, **case.keys)
    return value[0] if isinstance(value, tuple) else value

  run = jax.jit(jax.value_and_grad(loss))
  for kind in case.kinds:
    rng = np.random.default_rng(5)
    inputs = {
      name: x.astype(dtype) for name, x in case.inputs(rng, kind).items()
    }
    fixed = {}
    if case.fixed:
      shape = next(iter(inputs.values())).shape
      fixed = case.fixed(rng, shape[0], shape[-1])
    fixed = {
      name: x if x is None or x.dtype == np.int32 else x.astype(dtype)
      for name, x in fixed.items()
    }
    value, gradient = jax.device_get(run(inputs, fixed))
    their_value, their_gradient = _theirs(case, inputs, fixed)
    if kind == "random":
      usual_gradient = math.sqrt(
        sum(np.sum(g**2) for g in their_gradient.values())
      )
    # At collapse a gradient may be zero in theory: at least a hundredth of the
    # usual one is what it is measured by.
    collapse = kind in ("collapsed", "near collapse")
    floor = 10 * usual_gradient if collapse else 0.0
    of_gradient = tree_errors(gradient, their_gradient, floor=floor)
    scale = max(abs(their_value), case.terms)
    of_value = error(value, their_value, scale=scale)
    yield kind, (of_value, max(of_gradient.values()))


def _theirs(case, inputs, fixed):
  """Value and gradient in PyTorch's float64."""
  import torch

  tensors = {
    name: torch.from_numpy(x.astype(np.float64)).requires_grad_()
    for name, x in inputs.items()
  }
  rest = {}
  for name, x in fixed.items():
    if x is not None:
      kind = np.int64 if x.dtype == np.int32 else np.float64
      x = torch.from_numpy(x.astype(kind))
    rest[name] = x
  value = case.theirs(**tensors, **rest, **case.keys)
  if case.gradient:
    value.backward()
  gradient = {
    name: np.zeros(x.shape) if x.grad is None else x.grad.numpy()
    for name, x in tensors.items()
  }
  return value.item(), gradient


def _codes(dtype):
  """Sinkhorn against the paper's form, which has no logarithms."""
  import torch

  errors = {}
  for kind in ("random", "wide", "collapsed"):
    draw = cases_lib.scores("scores")
    scores = draw(np.random.default_rng(6), kind)["scores"]
    scores = scores[:, 0].astype(dtype)
    ours = clustering.sinkhorn(jnp.asarray(scores), epsilon=0.05, iterations=3)
    theirs = class_losses.plain_sinkhorn(
      torch.from_numpy(scores.astype(np.float64)), epsilon=0.05, iterations=3
    )
    errors[kind] = error(ours, theirs.numpy())
  return compared(
    SUITE,
    "sinkhorn: codes, by products without logarithms",
    f"{OURS}, float64" if dtype == "float32" else OURS,
    dtype,
    errors,
    _TOLERANCES[dtype][0],
  )
