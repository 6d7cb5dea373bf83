"""The suite `models` of launch/parity.py: networks with others' weights.

Layer by layer, the loss, and the gradient by tensor.
"""

import dataclasses
import functools

import numpy as np

from parity_suites import (
  foreign as foreign_lib,
  networks,
  timm_models,
)
from parity_suites.rows import (
  PRECISIONS,
  compared,
  error,
  missing,
  package,
  tree_errors,
)

SUITE = "models"
# Of outputs and losses, and of gradients.
TOLERANCES = {"float64": (1e-10, 1e-10), "float32": (1e-5, 2e-5)}
# Of the gradient of ResNet-50 in float32; twice what was measured.
_SIGNS = (
  3e-2,
  "ill-conditioned: rounding decides the sign of some of 20 million"
  " activations before ReLU; PyTorch's float32 is 1.4e-2 from its own float64",
)
_BATCH = 4

# package: builders of its models in the default report.
_SMALL = {
  "transformers": (
    foreign_lib.vit_mae,
    foreign_lib.vit,
    foreign_lib.resnet,
    functools.partial(foreign_lib.resnet, bottleneck=True, width=4),
  ),
  "timm": (timm_models.vit, timm_models.resnet),
  "torchvision": (timm_models.torchvision_resnet,),
}
# (name, builder, precisions) of `--full`.
_FULL = (
  (
    "ViT-B/16",
    functools.partial(
      foreign_lib.vit_mae,
      sizes=foreign_lib.VIT_B,
      decoder=foreign_lib.FULL_DECODER,
    ),
    PRECISIONS,
  ),
  (
    "ViT-L/16",
    functools.partial(
      foreign_lib.vit_mae,
      sizes=foreign_lib.VIT_L,
      decoder=foreign_lib.FULL_DECODER,
    ),
    ("float32",),  # float64 would take 20 GiB
  ),
  (
    "",
    functools.partial(foreign_lib.resnet, bottleneck=True, width=64, size=224),
    PRECISIONS,
  ),
)


def rows(full: bool = False):
  """The rows, one after the other.

  Args:
    full: ViT-B/16, ViT-L/16 and ResNet-50 in their published sizes besides.
  Yields:
    Rows.
  """
  for name, builders in _SMALL.items():
    module, said = package(name)
    if module is None:
      yield missing(SUITE, "networks", name, said)
      continue
    for build in builders:
      for dtype in PRECISIONS:
        theirs = build(module, dtype)
        # The gradient of 50 layers takes as long to compile as all others.
        gradient = theirs.name != "ResNet-50"
        yield from _of_model(theirs, said, dtype, _BATCH, gradient)
  if full:
    yield from _full()


def _full():
  transformers, said = package("transformers")
  if transformers is None:
    yield missing(SUITE, "full size", "transformers", said)
    return
  for size, build, precisions in _FULL:
    for dtype in precisions:
      theirs = build(transformers, dtype)
      name = f"{theirs.name} {size}".strip()
      theirs = dataclasses.replace(theirs, name=f"{name}, full size")
      yield from _of_model(theirs, said, dtype, 2)
      del theirs


def _images(rng, batch, size):
  """Squares of 8 pixels and some noise, [batch, size, size, 3].

  Of noise alone all images are alike to deep layers, and BatchNorm magnifies
  the rounding of what is left of their differences.
  """
  squares = rng.normal(size=(batch, size // 8, size // 8, 3))
  squares = np.repeat(np.repeat(squares, 8, axis=1), 8, axis=2)
  return squares + 0.3 * rng.normal(size=(batch, size, size, 3))


def _of_model(theirs, said, dtype, batch, gradient=True):
  run = networks.run_masked
  if theirs.kind != "masked":
    run = functools.partial(networks.run_encoder, with_gradient=gradient)
  rng = np.random.default_rng(0)
  images = _images(rng, batch, theirs.size).astype(dtype)
  with networks.precision(dtype):
    ours, found = run(theirs, images, rng, dtype)
  tolerance, of_gradient = TOLERANCES[dtype]
  make = functools.partial(compared, SUITE, other=said, precision=dtype)
  layers = {
    name: error(ours["layers"][name], x) for name, x in found["layers"].items()
  }
  state = " (training)" if theirs.kind == "resnet" else ""
  yield make(
    f"{theirs.name}: layer by layer{state}",
    errors=layers,
    tolerance=tolerance,
    by_layer=True,
    note="" if gradient else "its gradient is compared with --full",
  )
  yield make(
    f"{theirs.name}: loss",
    errors=error(ours["loss"], found["loss"]),
    tolerance=tolerance,
    note="" if theirs.kind == "masked" else "a quadratic form of the feature",
  )
  if gradient:
    note = "over the tensor's norm and a thousandth of the whole gradient's"
    if dtype == "float32" and theirs.name.startswith("ResNet-50"):
      of_gradient, note = _SIGNS
    yield make(
      f"{theirs.name}: gradient by tensor",
      errors=tree_errors(ours["gradient"], found["gradient"]),
      tolerance=of_gradient,
      note=note,
    )
  if theirs.kind == "resnet":
    yield make(
      f"{theirs.name}: running statistics after a step",
      errors=tree_errors(ours["statistics"], found["statistics"]),
      tolerance=tolerance,
    )
    yield make(
      f"{theirs.name}: feature in evaluation",
      errors=error(ours["feature"], found["feature"]),
      tolerance=tolerance,
    )
