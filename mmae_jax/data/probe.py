"""A fixed set of images in the views of training, the same at any time."""

from collections.abc import Iterator
from concurrent import futures
import dataclasses

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
import numpy as np

from mmae_jax.data import crops, pipeline
from mmae_jax.data.source import Source

_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
  """Some images of a source, spread evenly, with views that never change.

  Every crop is drawn from a generator of the image's row alone: neither the
  step, the run's seed, the batch nor the number of hosts has a say.

  Attributes:
    source: a split.
    rows: positions in the split, [n]; see `evenly`.
    config: the run's; `views` and `data.threads` are read.
  """

  source: Source
  rows: np.ndarray
  config: ConfigDict

  def __len__(self) -> int:
    return len(self.rows)

  def view_bytes(self) -> int:
    """What all views take as 8-bit pixels."""
    views = crops.read_views(self.config.views).values()
    return len(self) * sum(3 * v.count * v.size**2 for v in views)

  def batch_size(self, most: int, devices: int) -> int:
    """Rows of a batch, so that few are wasted on padding.

    Args:
      most: about so many at once.
      devices: over which a batch is split.
    Returns:
      A multiple of the devices; the smallest for its number of batches.
    """
    count = -(-len(self) // most)
    each = -(-len(self) // count)
    return -(-each // devices) * devices

  def batches(self, *, mesh: Mesh, batch_size: int) -> Iterator[pipeline.Batch]:
    """All rows in order.

    Args:
      mesh: as in `pipeline.batches`.
      batch_size: global; divisible by the number of devices.
    Returns:
      An iterator over the batches of `pipeline.batches`, with "valid", bool
      [batch]: False in the rows that fill up the last batch.
    """
    host, hosts = jax.process_index(), jax.process_count()
    share = batch_size // hosts
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    views = pipeline.RandomViews(
      self.source, _SEED, crops.read_views(self.config.views), (0, 1)
    )

    def row(i):
      at = int(self.rows[min(i, len(self) - 1)])
      return {**views.row(i, at), "valid": i < len(self)}

    # Threads and no worker processes, whose start costs more than they save
    # in so few images.
    threads = max(1, self.config.data.threads)
    with futures.ThreadPoolExecutor(threads, "probe") as pool:
      for start in range(0, len(self), batch_size):
        first = start + host * share
        rows = list(pool.map(row, range(first, first + share)))
        yield {
          name: jax.make_array_from_process_local_data(sharding, values)
          for name, values in pipeline.stack(rows).items()
        }


def evenly(length: int, count: int) -> np.ndarray:
  """At most `count` of `length` positions, evenly spaced, ends included.

  A folder's images are sorted by class: this takes some of every class.
  """
  count = min(count, length)
  return np.linspace(0, length - 1, count).round().astype(np.int64)
