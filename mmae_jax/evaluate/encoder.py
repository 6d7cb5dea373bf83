"""A trained encoder as a plain function of images."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from mmae_jax import models
from mmae_jax.data import crops
from mmae_jax.evaluate import features as features_lib, fit
from mmae_jax.types import UsageError

# Rows of one call per device, and what their pixels may take as float32.
_ROWS = 256
_PIXEL_BYTES = 128 * 2**20


def load_encoder(
  run_or_checkpoint: Any,
  *,
  step: int | None = None,
  pool: str | None = None,
  layer: int | None = None,
  evaluated: str | None = None,
) -> tuple[Callable[[Any], np.ndarray], dict[str, Any]]:
  """Loads the encoder of a run as a function from images to features.

      encode, info = load_encoder("runs/mmae-1a2b3c4d")
      features = encode(images)          # uint8 [n, H, W, 3] -> [n, dim]

  Images of any size are fitted as evaluation does it (antialiased bicubic,
  centre crop) and normalised as in training. The batch is split over all
  devices of this process; the rows are padded to a power of two, so that few
  programs serve any n. A list of differently sized images is fitted on the
  host, one by one.

  Args:
    run_or_checkpoint: a run's folder, or one `checkpoints/<step>` in it.
    step: the checkpoint of a run; None is its newest sound one.
    pool: "auto", "cls" or "mean" of the patch tokens, or of a ResNet's map;
      None is the run's setting.
    layer: block (of a ResNet: stage) to read, -1 is the last; None is the
      run's setting.
    evaluated: "student", or "teacher" for methods that keep one; None is the
      run's setting.
  Returns:
    (encode, info): `encode(images)` takes uint8 [n, H, W, 3] (or a list of
    [H, W, 3]) and returns float32 NumPy [n, dim]; `info` has method, step,
    dim, image_size, pool, layer, path, config (ConfigDict) and accuracy: what
    the run recorded at this step, {} where it did not evaluate.
  Raises:
    UsageError: no run or checkpoint there, of another architecture, an unknown
      pool or layer; and by `encode`: another type, shape or channel number.
  """
  # Not at the top: reading checkpoints takes orbax, a second to import.
  from mmae_jax.train import checkpoint, metrics

  config, params, model_state, step, path = checkpoint.load_network(
    run_or_checkpoint, step=step, evaluated=evaluated
  )
  settings = config.evaluation
  pool = settings.pool if pool is None else pool
  layer = settings.layer if layer is None else layer
  encoder, variables = build(config, params, model_state, path=path)
  size = config.views["global"].size
  encode = features_lib.make_encode(
    encoder,
    pool=pool,
    layer=layer,
    mean=config.views["global"].mean,
    std=config.views["global"].std,
  )
  info = {
    "method": config.objective.name,
    "step": step,
    "dim": features_lib.feature_dim(encode, variables, size),
    "image_size": size,
    "pool": pool,
    "layer": layer,
    "path": str(path),
    "config": config,
    "accuracy": {},
  }
  for record in metrics.read_metrics(path.parent.parent):
    if record["kind"] == "eval" and record["step"] == step:
      info["accuracy"] |= {
        name: value
        for name, value in record.items()
        if name.endswith("_accuracy")
      }
  encode = _encode_anywhere(encode, variables, info)
  return encode, info


def build(
  config: Any, params: Any, model_state: Any, *, path: Any
) -> tuple[Any, dict[str, Any]]:
  """The module and variables of a checkpoint's encoder, checked to agree.

  Args:
    config: a run's.
    params: of the network.
    model_state: of the network.
    path: of the checkpoint, for the message.
  Returns:
    (encoder, variables for `encoder.apply`).
  Raises:
    UsageError: the parameters are not those of the config's architecture.
  """
  size = config.views["global"].size
  encoder = models.build_encoder(config.encoder, size)
  if "encoder" not in params:
    raise UsageError(f"{path}: the network in it has no `encoder`")
  variables = features_lib.encoder_variables(params, model_state)
  init = functools.partial(encoder.init, method="features")
  image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
  expected = jax.eval_shape(init, jax.random.key(0), image)
  if difference := first_difference(expected, variables):
    name, wanted, there = difference
    raise UsageError(
      f"{path}: not a checkpoint of this architecture (config.encoder):"
      f" {name} is {there}, expected {wanted}"
    )
  return encoder, variables


def first_difference(expected: Any, found: Any) -> tuple | None:
  """Where two trees of arrays first differ in shape.

  Args:
    expected: a tree of arrays or of their shapes.
    found: another one.
  Returns:
    (name, shape expected, shape found), "absent" where there is no such array;
    None where all are the same.
  """
  expected, found = _shapes(expected), _shapes(found)
  for name in sorted(expected.keys() | found.keys()):
    wanted, there = (s.get(name, "absent") for s in (expected, found))
    if wanted != there:
      return name, wanted, there
  return None


def _shapes(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): list(x.shape) for path, x in leaves}


def _encode_anywhere(encode, variables, info):
  """Checks, fits, splits and pads images around a jitted encode."""
  size = info["image_size"]
  interpolation = info["config"].views["global"].interpolation
  devices = jax.local_devices()
  mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
  by_rows = NamedSharding(mesh, PartitionSpec("data"))
  variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))

  @jax.jit
  def fitted_features(variables, images):
    images = fit.fit_images(images, size, interpolation=interpolation)
    return encode(variables, images)

  def encode_images(images: Any) -> np.ndarray:
    images = as_batch(images, size, interpolation=interpolation)
    pixel_bytes = images.shape[1] * images.shape[2] * 3 * 4
    largest = min(_ROWS, _power_of_two_below(_PIXEL_BYTES // pixel_bytes))
    rows = largest * len(devices)
    parts = [np.zeros((0, info["dim"]), np.float32)]
    for start in range(0, len(images), rows):
      part = np.asarray(images[start : start + rows])
      each = -(-len(part) // len(devices))
      padded = 2 ** (each - 1).bit_length() * len(devices)
      padding = [(0, padded - len(part))] + [(0, 0)] * 3
      batch = jax.device_put(np.pad(part, padding), by_rows)
      parts.append(np.asarray(fitted_features(variables, batch))[: len(part)])
    return np.concatenate(parts)

  return encode_images


def _power_of_two_below(n):
  return 2 ** (max(n, 1).bit_length() - 1)


def as_batch(
  images: Any, size: int, *, interpolation: str = "bicubic"
) -> np.ndarray | jax.Array:
  """Images as one uint8 [n, H, W, 3] array.

  Args:
    images: such an array, or a sequence of [H, W, 3] arrays; if these differ
      in size they are fitted to `size` here.
    size: side that the encoder expects.
    interpolation: for those that are fitted here.
  Returns:
    The array.
  Raises:
    UsageError: another type, shape or number of channels; the message names
      what came.
  """
  expected = "encode expects uint8 images [n, height, width, 3]"
  if isinstance(images, Sequence) and not isinstance(images, str | bytes):
    images = [np.asarray(image) for image in images]
    for i, image in enumerate(images):
      if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(
          f"{expected} or a list of [height, width, 3]; image {i} of the list"
          f" is {image.dtype} {list(image.shape)}"
        )
    if not images:
      return np.zeros((0, size, size, 3), np.uint8)
    if len({image.shape for image in images}) > 1:
      images = [
        crops.centre_view(image, size, interpolation=interpolation)
        for image in images
      ]
    images = np.stack(images)
  if not hasattr(images, "dtype") or not hasattr(images, "shape"):
    raise UsageError(f"{expected}, got {type(images).__name__}")
  shape = list(images.shape)
  came = f"got {images.dtype} {shape}"
  if images.dtype != np.uint8:
    raise UsageError(f"{expected} with values 0 to 255, {came}")
  if images.ndim == 3:
    raise UsageError(
      f"{expected}, {came}: one colour image is images[None], grey images are"
      " np.repeat(images[..., None], 3, axis=-1)"
    )
  if images.ndim != 4 or shape[3] != 3:
    hint = ""
    if images.ndim == 4 and shape[1] == 3:
      hint = ": channels go last, images.transpose(0, 2, 3, 1)"
    elif images.ndim == 4 and shape[3] == 1:
      hint = ": grey images are np.repeat(images, 3, axis=-1)"
    raise UsageError(f"{expected}, {came}{hint}")
  if 0 in shape[1:]:
    raise UsageError(f"{expected}, {came}: an image without pixels")
  return images
