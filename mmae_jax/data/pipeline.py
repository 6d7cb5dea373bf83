"""From a source to global batches: order, views, host slice, devices.

The position of a batch is a pure function of the step, so a restart needs no
iterator state, and any number of hosts, threads or workers makes the same
bytes.
"""

from collections.abc import Iterator
from concurrent import futures
import dataclasses
from typing import Any

import grain
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
import numpy as np

from mmae_jax import types
from mmae_jax.data import crops, workers
from mmae_jax.data.source import UNLABELLED, Source

Batch = dict[str, Any]

_UINT32 = 2**32 - 1
_SMALL = 32
_TYPES = {"label": np.int32, "index": np.int32, "seed": np.uint32}


@dataclasses.dataclass(frozen=True)
class RandomViews:
  """(number, indices) of one of this host's batches -> its views.

  Everything is drawn from a counter-based generator of (seed, position): no
  draw depends on which host, thread or worker makes it. A class, so that
  workers can unpickle it.
  """

  source: Source
  seed: int
  views: dict[str, crops.View]
  host: tuple[int, int]

  def __call__(self, number: int, indices: np.ndarray) -> Batch:
    host, hosts = self.host
    first = (number * hosts + host) * len(indices)
    rows = [self.row(first + i, at) for i, at in enumerate(indices.tolist())]
    return stack(rows)

  def row(self, position: int, index: int) -> Batch:
    """The views of one image, drawn for one position."""
    bits = np.random.Philox(key=[self.seed, position])
    record = self.source[index]
    return {
      "label": record["label"],
      "index": record["index"],
      "seed": bits.random_raw() & _UINT32,
      **crops.random_views(
        np.random.Generator(bits), record["image"], self.views
      ),
    }


@dataclasses.dataclass(frozen=True)
class _CentreView:
  """Row number -> the evaluation view of that image, or padding."""

  source: Source
  size: int
  interpolation: str

  def __call__(self, row: int) -> Batch:
    valid = row < len(self.source)
    view = np.zeros((1, self.size, self.size, 3), np.uint8)
    label, index = UNLABELLED, -1
    if valid:
      record = self.source[row]
      label, index = record["label"], record["index"]
      view[0] = crops.centre_view(
        record["image"], self.size, interpolation=self.interpolation
      )
    return {
      "global": view,
      "label": label,
      "index": index,
      "seed": 0,
      "valid": valid,
    }


def batch_shapes(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and types of a global training batch, before there is one.

  Args:
    config: the run's; `batch_size` and `views` are read.
  Returns:
    The dict of `batches`, of jax.ShapeDtypeStruct.
  Raises:
    UsageError: a view that is out of range.
  """
  size = config.batch_size
  shapes = {
    name: jax.ShapeDtypeStruct((size,), kind) for name, kind in _TYPES.items()
  }
  for name, view in crops.read_views(config.views).items():
    shape = (size, view.count, view.size, view.size, 3)
    shapes[name] = jax.ShapeDtypeStruct(shape, np.uint8)
  return shapes


def steps_per_epoch(source: Source, batch_size: int) -> int:
  """Whole batches in one pass; the tail is dropped.

  Args:
    source: the training split.
    batch_size: global batch.
  Returns:
    len(source) // batch_size, at least 1.
  Raises:
    UsageError: the split does not fill one batch.
  """
  if batch_size < 1:
    raise types.UsageError(f"--config.batch_size={batch_size}: is not positive")
  if batch_size > len(source):
    raise types.UsageError(
      f"--config.batch_size={batch_size}: {source.name} ({source.split}) holds"
      f" {len(source)} images, not one whole batch"
    )
  return len(source) // batch_size


def host_batches(
  source: Source,
  config: ConfigDict,
  *,
  start_step: int = 0,
  host: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
  """This host's rows of each training batch, without end.

  Args:
    source: the training split.
    config: the run's; `seed`, `batch_size`, `views`, `data` are read.
    start_step: the first batch.
    host: (this host, number of hosts).
  Returns:
    An iterator with `close()` of {"global": uint8 [rows, views, size, size, 3],
    "label": int32 [rows], "index": int32 [rows], "seed": uint32 [rows]}; rows
    is batch_size / hosts, and host i holds the i-th part of the global batch.
  Raises:
    UsageError: batch larger than the split or not divisible by the hosts, or a
      view or the seed is out of range.
  """
  index, hosts = host
  size = config.batch_size
  if not 0 <= config.seed <= _UINT32:
    raise types.UsageError(f"--config.seed={config.seed}: needs 0 to 2^32 - 1")
  steps = steps_per_epoch(source, size)
  rows = _share(size, hosts, "hosts", "--config.batch_size")
  views = crops.read_views(config.views)
  largest = max(view.size for view in views.values())
  # grain carries indices and meets one element a batch: its price per record
  # and stage would exceed that of the view of a small image. Batching before
  # the slice gives each host a run of rows; the other order would deal the
  # rows of a global batch out like cards.
  dataset = (
    grain.MapDataset.range(len(source))
    .seed(config.seed)
    .shuffle()[: steps * size]
    .repeat()
    .batch(rows, batch_fn=np.asarray)[index::hosts]
    .map_with_index(RandomViews(source, config.seed, views, host))
  )
  return _iterate(dataset[start_step:], source, config, largest)


def batches(
  source: Source,
  config: ConfigDict,
  *,
  mesh: Mesh,
  start_step: int = 0,
  host: tuple[int, int] | None = None,
) -> Iterator[Batch]:
  """Global training batches on the devices, one ahead.

  Args:
    source: the training split.
    config: as `host_batches` reads it.
    mesh: with axes "data" and "fsdp"; the batch is split over both.
    start_step: the first batch.
    host: (this process, number of processes); asked of jax if None.
  Returns:
    A generator (with `close()`) of the dicts of `host_batches`, each value a
    global jax.Array sharded along its first dimension.
  Raises:
    UsageError: as `host_batches`.
  """
  host = host or (jax.process_index(), jax.process_count())
  devices = mesh.devices.size
  _share(config.batch_size, devices, "devices", "--config.batch_size")
  iterator = host_batches(source, config, start_step=start_step, host=host)
  return _one_ahead(iterator, mesh)


def evaluation_batches(
  source: Source,
  config: ConfigDict,
  *,
  mesh: Mesh,
  batch_size: int,
  host: tuple[int, int] | None = None,
) -> Iterator[Batch]:
  """Every image of a split once, in order, as one centre view.

  Args:
    source: any split.
    config: the run's; `views["global"]` and `data` are read.
    mesh: as in `batches`.
    batch_size: global; divisible by the number of devices.
    host: as in `batches`.
  Returns:
    A generator of the dicts of `batches` with one view, and "valid", bool
    [batch]: False in the rows that fill up the last batch, whose label and
    index are -1.
  Raises:
    UsageError: batch_size is not divisible by the devices.
  """
  index, hosts = host or (jax.process_index(), jax.process_count())
  flag = "--config.evaluation.batch_size"
  _share(batch_size, mesh.devices.size, "devices", flag)
  rows = _share(batch_size, hosts, "hosts", flag)
  view = config.views["global"]
  count = -(-len(source) // batch_size) * batch_size
  dataset = (
    grain.MapDataset.range(count)
    .map(_CentreView(source, view.size, view.interpolation))
    .batch(rows, batch_fn=stack)[index::hosts]
  )
  return _one_ahead(_iterate(dataset, source, config, view.size), mesh)


def stack(rows: list[Batch]) -> Batch:
  """Rows -> a batch, in the types of `batches`."""
  return {
    name: np.array([row[name] for row in rows], _TYPES.get(name))
    for name in rows[0]
  }


def _share(batch_size: int, parts: int, of: str, flag: str) -> int:
  if batch_size % parts:
    raise types.UsageError(
      f"{flag}={batch_size}: is not divisible by {parts} {of}"
    )
  return batch_size // parts


def _iterate(dataset, source, config, size):
  """Reads ahead with threads, or with workers if the data are on disk."""
  data = config.data
  # Small views of images in memory are mostly Python, whose threads get into
  # each other's way: 12,100 images/s at 8 x 8 with one, 5,300 with four.
  alone = source.in_memory and size <= _SMALL
  threads = 1 if alone else max(1, data.threads)
  iterator = dataset.to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
  )
  if data.workers and not source.in_memory:
    iterator = workers.read_ahead(iterator, data.workers)
  with workers.started_deaf():  # so are the threads that will start workers
    return iter(iterator)


def _one_ahead(iterator, mesh):
  """Puts the next batch on the devices before it hands out the current one."""
  sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))

  def fetch():
    with workers.started_deaf():  # the first batch starts them
      batch = next(iterator, None)
    return batch and {
      name: jax.make_array_from_process_local_data(sharding, rows)
      for name, rows in batch.items()
    }

  def generate():
    # In a thread of its own: a small step is over before the next small batch
    # has become global arrays.
    with futures.ThreadPoolExecutor(1, "batches") as pool:
      try:
        ahead = pool.submit(fetch)
        while (batch := ahead.result()) is not None:
          ahead = pool.submit(fetch)
          yield batch
      finally:
        pool.shutdown()
        iterator.close()

  return generate()
