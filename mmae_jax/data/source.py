"""A split as a sequence of records: `len(source)` and `source[i]`."""

from collections.abc import Sequence
from concurrent import futures
import dataclasses
from typing import Any

from absl import logging
from ml_collections import ConfigDict
import numpy as np
import tensorflow_datasets as tfds

from mmae_jax import types
from mmae_jax.data import catalogue, images

UNLABELLED = -1
_SAMPLED = 64
_GIB = 2**30


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """One split of a dataset.

  `source[i]` is `{"image": encoded bytes or uint8 [height, width, 3], "label":
  int (-1 if unlabelled), "index": i}`.

  Attributes:
    name: of the dataset, or the path of the folder.
    split: as tfds writes it.
    records: [i] -> (image, label).
    num_classes: 0 if unlabelled.
    class_names: by label, or None.
    rejected: {"file", "reason"} of files left out; only of image folders.
    in_memory: the images are decoded already.
  """

  name: str
  split: str
  records: Sequence[tuple[Any, int]]
  num_classes: int
  class_names: list[str] | None
  rejected: list[dict[str, str]]
  in_memory: bool

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, i) -> dict[str, Any]:
    image, label = self.records[i]
    return {"image": image, "label": label, "index": i}

  def __repr__(self) -> str:  # grain writes it into its messages
    return f"Source({self.name}, {self.split}, {len(self)} images)"


@dataclasses.dataclass(frozen=True)
class _OnDisk:
  """Records of a tfds data source; pickles as the paths of its files."""

  records: Sequence[dict[str, Any]]
  image: str
  label: str | None

  def __len__(self):
    return len(self.records)

  def __getitem__(self, i):
    record = self.records[i]
    label = UNLABELLED if self.label is None else int(record[self.label])
    return record[self.image], label


@dataclasses.dataclass(frozen=True)
class _InMemory:
  """Decoded images and labels."""

  images: Sequence[np.ndarray]
  labels: list[int]

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, i):
    return self.images[i], self.labels[i]


def prepare(config: ConfigDict) -> None:
  """Makes sure that the dataset is on disk; see `open_source` for errors.

  Every process calls it: the first one prepares under a file lock, the others
  wait and find it done.

  Args:
    config: the run's; `data` is read.
  """
  catalogue.builder_of(config.data)


def open_source(config: ConfigDict, split: str) -> Source | None:
  """Opens one split, preparing own data on first use.

  Args:
    config: the run's; `data` is read.
    split: "train" or "test"; which split of the dataset that is stands in
      `config.data.train_split` and `.test_split`. Where the default "test" is
      absent, "validation" takes its place.
  Returns:
    The source, or None where the dataset has no test split.
  Raises:
    UsageError: unknown or unprepared dataset, bad folder, bad or empty split,
      no image in the records.
  """
  return _open(catalogue.builder_of(config.data), config.data, split)


def open_sources(config: ConfigDict) -> tuple[Source, Source | None]:
  """(train, test), listing a folder of images only once.

  Args:
    config: the run's; `data` is read.
  Returns:
    As `open_source` for each.
  """
  builder = catalogue.builder_of(config.data)
  train = _open(builder, config.data, "train")
  return train, _open(builder, config.data, "test")


def _open(builder, data, split):
  spec = _split_name(builder, data, split)
  if spec is None:
    return None
  flag = f"--config.data.{split}_split={spec}"
  try:
    count = builder.info.splits[spec].num_examples
  except (ValueError, KeyError, AssertionError) as error:
    raise types.UsageError(
      f"{flag}: {str(error).splitlines()[0]} Splits of"
      f" {data.folder or data.name}: {catalogue.describe_splits(builder)}"
    ) from None
  if not count:
    raise types.UsageError(f"{flag}: holds no image")
  image, label = _find_features(builder, data)
  records = _OnDisk(_data_source(builder, data, spec, image), image, label)
  feature = builder.info.features[label] if label else None
  pixels = _load(records, data)
  return Source(
    name=data.folder or data.name,
    split=spec,
    records=records if pixels is None else pixels,
    num_classes=feature.num_classes if feature else 0,
    class_names=list(feature.names) if feature else None,
    rejected=catalogue.rejected(builder),
    in_memory=pixels is not None,
  )


def _split_name(builder, data, split):
  spec = data[f"{split}_split"]
  if split == "train":
    return spec
  if spec == "validation" and data.folder:
    spec = "test"  # ImageNet's name, in a recipe that reads own images
  if spec == "test" and spec not in builder.info.splits:
    spec = "validation" if "validation" in builder.info.splits else ""
  return spec or None


def _find_features(builder, data):
  """Names of the image and the label; those called so come first."""

  def find(kind, usual):
    names = [
      name
      for name, feature in builder.info.features.items()
      if isinstance(feature, kind)
    ]
    return usual if usual in names else (names or [None])[0]

  image = find(tfds.features.Image, "image")
  if image is None:
    raise types.UsageError(
      f"{catalogue.NAME_FLAG}={data.name}: its records hold no image, only"
      f" {', '.join(builder.info.features)}"
    )
  return image, find(tfds.features.ClassLabel, "label")


def _data_source(builder, data, spec, image):
  try:
    return builder.as_data_source(
      split=spec, decoders={image: tfds.decode.SkipDecoding()}
    )
  except NotImplementedError:
    raise types.UsageError(
      f"{catalogue.NAME_FLAG}={data.name}: lies in {builder.data_path} as"
      f" {builder.info.file_format.value}, which has no random access; prepare"
      f" it elsewhere: python launch/prepare_data.py --name={data.name}"
      " --dir=<another folder>"
    ) from None


def _load(records, data):
  """Decodes the split once, if it then fits in `data.cache_gib`; else None."""
  limit = data.cache_gib * _GIB
  count = len(records)
  step = -(-count // _SAMPLED)
  sizes = [images.size(records[i][0]) for i in range(0, count, step)]
  expected = count * np.mean([3 * height * width for height, width in sizes])
  if expected > limit:
    return None
  labels = [UNLABELLED] * count

  def read(i):
    image, labels[i] = records[i]
    return images.decode(image)

  with futures.ThreadPoolExecutor(max(1, data.threads)) as pool:
    pixels = list(pool.map(read, range(count)))
  logging.info(
    "%d images decoded into memory (%.2f GiB)",
    count,
    sum(image.nbytes for image in pixels) / _GIB,
  )
  return _InMemory(pixels, labels)
