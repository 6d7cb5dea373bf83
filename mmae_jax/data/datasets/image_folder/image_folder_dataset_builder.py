"""One's own folder of images as a tfds dataset that resumes when killed.

tfds's GeneratorBasedBuilder writes shards only after it has seen every example,
so a preparation that is killed begins anew, and it cannot skip a rotten file
with a reason. This builder therefore fills in `_download_and_prepare` itself:
`shards.py` writes checked shards beside the final place, and only when all of
them are there are they linked into tfds's temporary folder, which tfds renames.
What is read is an ordinary array_record dataset with tfds's own metadata.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import sys
import time

from rich import console as rich_console, progress as rich_progress
import tensorflow_datasets as tfds

from mmae_jax import types
from mmae_jax.data.datasets.image_folder import (
  scan as scan_lib,
  shards as shards_lib,
)

_UNFINISHED = "unfinished"
_LOG_SECONDS = 30


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
  """A scanned folder and how to prepare it.

  Attributes:
    scan: the folder's content; its key is the config's name.
    max_rejected: share of the files that may be rejected.
    threads: images checked at the same time.
  """

  scan: scan_lib.Scan | None = dataclasses.field(default=None, repr=False)
  max_rejected: float = 0.01
  threads: int = 4


class Builder(tfds.core.dataset_builder.FileReaderBuilder):
  """Images of a folder, classes from its sub-folders."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    scan = self.builder_config.scan
    features = {
      "image": tfds.features.Image(shape=(None, None, 3)),
      "file": tfds.features.Text(),
    }
    if scan.class_names is not None:
      features["label"] = tfds.features.ClassLabel(names=scan.class_names)
    return tfds.core.DatasetInfo(
      builder=self,
      description=f"The images of {scan.folder}.",
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,
    )

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    del dl_manager, download_config  # nothing to download
    config = self.builder_config
    serializer = tfds.core.ExampleSerializer(
      self.info.features.get_serialized_info()
    )
    encode = self.info.features.encode_example
    target = pathlib.Path(self.data_path)  # tfds's temporary folder
    unfinished = target.parent / _UNFINISHED
    with _progress(config.scan) as advance:
      written = shards_lib.write_shards(
        config.scan,
        unfinished,
        serialize=lambda x: serializer.serialize_example(encode(x)),
        max_rejected=config.max_rejected,
        threads=config.threads,
        advance=advance,
      )
    splits = []
    for name, shards in written.items():
      shards = [shard for shard in shards if shard["count"]]
      if not shards:
        continue
      template = self._get_filename_template(split_name=name)
      for i, shard in enumerate(shards):
        path = template.sharded_filepath(shard_index=i, num_shards=len(shards))
        _link(shard["path"], path)
      splits.append(
        tfds.core.SplitInfo(
          name=name,
          shard_lengths=[shard["count"] for shard in shards],
          num_bytes=sum(shard["bytes"] for shard in shards),
          filename_template=template,
        )
      )
    if not any(split.name == "train" for split in splits):
      raise types.UsageError(
        f"{config.scan.folder}: no training image in it can be used; see"
        f" {unfinished / shards_lib.LEDGER}"
      )
    shutil.copy(unfinished / shards_lib.LEDGER, target / shards_lib.LEDGER)
    self.info.set_splits(tfds.core.SplitDict(splits))

  def _post_download_and_prepare_hook(self) -> None:
    shutil.rmtree(self.data_path.parent / _UNFINISHED, ignore_errors=True)


def _link(source: pathlib.Path, target: os.PathLike) -> None:
  """A second name for the file, or a copy where the disk knows no links."""
  try:
    os.link(source, target)
  except OSError:
    shutil.copy(source, target)


@contextlib.contextmanager
def _progress(scan: scan_lib.Scan):
  """A progress bar over the files; in a log file, a line now and then."""
  console = rich_console.Console(stderr=True)
  bar = rich_progress.Progress(
    rich_progress.TextColumn("preparing {task.description}"),
    rich_progress.BarColumn(),
    rich_progress.MofNCompleteColumn(),
    rich_progress.TimeRemainingColumn(),
    console=console,
    disable=not console.is_terminal,
  )
  task = bar.add_task(scan.folder, total=scan.num_files)
  told = time.monotonic()

  def advance(count):
    nonlocal told
    bar.advance(task, count)
    if bar.disable and time.monotonic() - told > _LOG_SECONDS:
      told = time.monotonic()
      done = int(bar.tasks[0].completed)
      print(
        f"preparing {scan.folder}: {done} of {scan.num_files} files",
        file=sys.stderr,
        flush=True,
      )

  with bar:
    yield advance
