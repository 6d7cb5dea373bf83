"""Frozen features of a whole split, and the file they are kept in."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import functools
import io
import os
from typing import Any
import weakref

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax.data import photometry, pipeline
from mmae_jax.evaluate import hosts
from mmae_jax.types import UsageError

Array = jax.Array

# Centre views of a split up to this size stay on the devices between two
# evaluations of a run, so that they are decoded once.
CACHE_BYTES = 256 * 2**20
_cache: dict[int, dict] = {}


def encoder_variables(params: Any, model_state: Any) -> dict[str, Any]:
  """The variables of the backbone inside a network's.

  Args:
    params: of a network that names its backbone `encoder`.
    model_state: the network's other collections, {name: tree}; may be empty.
  Returns:
    What `encoder.apply` takes: {"params": ..., other collections}.
  """
  state = {
    name: tree["encoder"]
    for name, tree in dict(model_state or {}).items()
    if "encoder" in tree
  }
  return {"params": params["encoder"], **state}


def make_encode(
  encoder: Any,
  *,
  pool: str,
  layer: int,
  mean: Iterable[float],
  std: Iterable[float],
) -> Callable[[Any, Array], Array]:
  """Jitted (variables, uint8 images) -> features, one object per setting.

  Equal arguments give the same function, so a run compiles it once for all
  its evaluations.

  Args:
    encoder: module with `features(images, pool=..., layer=...)`.
    pool: "auto", "cls" or "mean" of the patch tokens, or of the map.
    layer: block (of a ResNet: stage) to read, -1 is the last.
    mean: of each channel, on pixels in [0, 1].
    std: of each channel.
  Returns:
    Function of (variables, uint8 [batch, height, width, 3], or one view of it,
    [batch, 1, height, width, 3]) to float32 [batch, dim], after the final
    norm, unmasked; differentiation stops here.
  """
  return _cached_encode(encoder, pool, layer, tuple(mean), tuple(std))


@functools.lru_cache(maxsize=32)
def _cached_encode(encoder, pool, layer, mean, std):
  @jax.jit
  def encode(variables, images):
    images = images.reshape(-1, *images.shape[-3:])
    pixels = photometry.normalise(images, mean=mean, std=std)
    features = encoder.apply(
      variables, pixels, pool=pool, layer=layer, method="features"
    )
    return jax.lax.stop_gradient(features).astype(jnp.float32)

  return encode


def feature_dim(encode: Any, variables: Any, image_size: int) -> int:
  """Length of a feature, without computing one.

  Args:
    encode: of `make_encode`.
    variables: of the encoder.
    image_size: side in pixels.
  Returns:
    The dimension.
  Raises:
    UsageError: pool or layer are not those of this encoder.
  """
  image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.uint8)
  try:
    return jax.eval_shape(encode, variables, image).shape[-1]
  except ValueError as error:
    raise UsageError(
      f"{error} (--pool, --layer or config.evaluation)"
    ) from error


def encode_of(config: Any, encoder: Any) -> Callable[[Any, Array], Array]:
  """`make_encode` as a run's config says it."""
  view = config.views["global"]
  return make_encode(
    encoder,
    pool=config.evaluation.pool,
    layer=config.evaluation.layer,
    mean=view.mean,
    std=view.std,
  )


def extract(
  encode: Callable[[Array], Array], batches: Iterable[Mapping[str, Array]]
) -> tuple[np.ndarray, np.ndarray]:
  """Features and labels of every valid row, in the order of the source.

  A collective operation: with several processes all run it and all hold all
  rows afterwards.

  Args:
    encode: images as `batches` hold them -> [batch, dim].
    batches: dictionaries with "global", "label" and "valid"; padded rows are
      those with valid == False.
  Returns:
    float32 [rows, dim] and int32 [rows] (-1 is unlabelled).
  Raises:
    UsageError: not a single row.
  """
  rows, labels = [], []
  pending = collections.deque()

  def fetch():
    feature, label, valid = (hosts.to_host(x) for x in pending.popleft())
    rows.append(feature[valid])
    labels.append(label[valid])

  for batch in batches:
    # Two batches in flight: the devices work while the host reads.
    pending.append((encode(batch["global"]), batch["label"], batch["valid"]))
    if len(pending) > 2:
      fetch()
  while pending:
    fetch()
  if not rows or not sum(map(len, rows)):
    raise UsageError("no images to evaluate: the split is empty")
  return (
    np.concatenate(rows).astype(np.float32, copy=False),
    np.concatenate(labels).astype(np.int32, copy=False),
  )


class Subset:
  """Some records of a source, under the source's other attributes.

  Attributes:
    source: the whole.
    positions: of the records in the source, [n].
  """

  def __init__(self, source: Any, positions: np.ndarray):
    self.source = source
    self.positions = positions

  def __len__(self) -> int:
    return len(self.positions)

  def __getitem__(self, i) -> Any:
    return self.source[int(self.positions[i])]

  def __getattr__(self, name):
    if name.startswith("__") or name == "source":
      raise AttributeError(name)
    return getattr(self.source, name)


def chosen_positions(length: int, limit: int) -> np.ndarray:
  """The positions that an evaluation of at most `limit` images reads.

  Args:
    length: images of the split.
    limit: at most so many; 0 is no limit.
  Returns:
    Increasing positions: all, or a uniform choice that is always the same (a
    folder is sorted by class, so its first images are no sample).
  """
  if not limit or length <= limit:
    return np.arange(length)
  generator = np.random.Generator(np.random.Philox(key=length))
  return np.sort(generator.choice(length, limit, replace=False))


def evaluation_images(
  source: Any, config: Any, *, mesh: jax.sharding.Mesh, limit: int = 0
) -> Iterator[Mapping[str, Array]]:
  """Batches of centre views in order; those of a small split are kept.

  Args:
    source: records with image and label.
    config: a run's; the batch is `evaluation.batch_size`, rounded up to the
      number of devices and not larger than the split.
    mesh: the devices over which a batch is split.
    limit: see `chosen_positions`.
  Returns:
    Iterator over the batches of `data.pipeline.evaluation_batches`.
  """
  positions = chosen_positions(len(source), limit)
  view = config.views["global"]
  devices = mesh.devices.size
  wanted = min(config.evaluation.batch_size, len(positions))
  batch_size = -(-wanted // devices) * devices
  kept = _kept_for(source)
  key = (mesh, limit, batch_size, view.size, view.interpolation)
  if key in kept:
    yield from kept[key]
    return
  small = len(positions) * view.size**2 * 3 <= CACHE_BYTES
  batches = []
  for batch in pipeline.evaluation_batches(
    Subset(source, positions), config, mesh=mesh, batch_size=batch_size
  ):
    if small:
      batches.append(batch)
    yield batch
  if small:
    kept[key] = batches


def _kept_for(source):
  """The cache of one source, which ends with it; sources have no hash."""
  if id(source) not in _cache:
    _cache[id(source)] = {}
    weakref.finalize(source, _cache.pop, id(source), None)
  return _cache[id(source)]


def missing_labels(source: Any) -> str:
  """Why k-NN and linear probe are left out for a source, or ""."""
  if not source.num_classes:
    return "the images have no labels"
  if source.num_classes < 2:
    return "all images are of one class"
  return ""


def save_npz(path: Any, **arrays: np.ndarray) -> None:
  """Writes arrays to an .npz; a reader sees the whole file or none.

  Args:
    path: local or remote (`gs://...`).
    **arrays: what the file holds.
  Raises:
    UsageError: the file can't be written.
  """
  path = epath.Path(path)
  temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise UsageError(f"{path}: can't be written ({error})") from error
