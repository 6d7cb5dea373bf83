"""Which prepared tfds dataset a config means; prepares the two of our own."""

import contextlib
import difflib
import io
import os

from absl import logging
from ml_collections import ConfigDict
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from mmae_jax import types
from mmae_jax.data import locks
from mmae_jax.data.datasets.digits import digits_dataset_builder
from mmae_jax.data.datasets.image_folder import (
  image_folder_dataset_builder,
  scan as scan_lib,
  shards as shards_lib,
)

_DIGITS = "digits"
_NEAREST = 5
DIR_FLAG = "--config.data.dir"
FOLDER_FLAG = "--config.data.folder"
NAME_FLAG = "--config.data.name"


def builder_of(data: ConfigDict) -> tfds.core.DatasetBuilder:
  """The dataset that `config.data` names, ready to be read.

  The embedded digits and a folder of images are prepared on first use; a lock
  lets one process do it while others wait.

  Args:
    data: `config.data`.
  Returns:
    A tfds builder whose files are on disk.
  Raises:
    UsageError: no such folder or name, or a name that is not prepared.
  """
  root = data_dir(data)
  if data.folder:
    if not 0 <= data.max_rejected <= 1:
      raise types.UsageError(
        f"--config.data.max_rejected={data.max_rejected}: is a share of the"
        " files, 0 to 1"
      )
    if "://" in root:
      raise types.UsageError(
        f"{DIR_FLAG}={root}: a folder of images is prepared on a local disk"
      )
    scan = scan_lib.scan(data.folder, holdout=data.holdout, flag=FOLDER_FLAG)
    config = image_folder_dataset_builder.FolderConfig(
      name=scan.key,
      scan=scan,
      max_rejected=data.max_rejected,
      threads=data.threads,
    )
    make = image_folder_dataset_builder.Builder
    return _prepared(lambda: make(data_dir=root, config=config))
  if data.name == _DIGITS:
    make = digits_dataset_builder.Builder
    return _prepared(lambda: make(data_dir=root))
  try:
    return _quietly(
      read_only_builder.builder_from_files, name=data.name, data_dir=root
    )
  except (tfds.core.DatasetNotFoundError, ValueError):
    raise types.UsageError(_why_not_found(data.name, root)) from None


def data_dir(data: ConfigDict) -> str:
  """Where datasets lie: the config's, else what tfds itself takes."""
  chosen = data.dir or os.environ.get("TFDS_DATA_DIR", "")
  return os.path.expanduser(chosen or "~/tensorflow_datasets")


def prepare(data: ConfigDict) -> tfds.core.DatasetBuilder:
  """`builder_of`, which also downloads a tfds dataset that is not there yet.

  Args:
    data: `config.data`.
  Returns:
    A builder whose files are on disk, as array_record.
  Raises:
    UsageError: as `builder_of`, or a tfds builder that encodes its images with
      TensorFlow while there is none.
  """
  name = data.name
  if data.folder or name == _DIGITS:
    return builder_of(data)
  try:
    builder = tfds.builder(name, data_dir=data_dir(data), try_gcs=False)
    builder.download_and_prepare(file_format="array_record")
  except (tfds.core.DatasetNotFoundError, ValueError):
    if _known(name):
      raise
    raise types.UsageError(_unknown(name, "--name")) from None
  except ImportError as error:
    if "tensorflow" not in str(error).lower():
      raise
    raise types.UsageError(
      f"--name={name}: its builder encodes images with TensorFlow, which is"
      ' not installed: pip install -e ".[prepare]" and repeat; training does'
      " not need it"
    ) from error
  except OSError as error:  # no network, no space, no permission
    raise types.UsageError(
      f"--name={name} --dir={data_dir(data)}: {error}"
    ) from error
  return builder


def rejected(builder: tfds.core.DatasetBuilder) -> list[dict[str, str]]:
  """{"file", "reason"} of the files that an image folder's copy left out."""
  return shards_lib.read_ledger(builder.data_path / shards_lib.LEDGER)


def describe_splits(builder: tfds.core.DatasetBuilder) -> str:
  """Names and sizes, "train (1437), test (360)"."""
  splits = builder.info.splits
  order = sorted(splits, key=lambda name: (name != "train", name))
  return ", ".join(f"{name} ({splits[name].num_examples})" for name in order)


def _prepared(make) -> tfds.core.DatasetBuilder:
  """Prepares a dataset of ours unless it is there; returns its reader.

  The reader knows the files on disk only: a worker process that unpickles it
  gets no list of a million images.
  """
  builder = _quietly(make)
  place = builder.data_path
  if not _quietly(builder.is_prepared):
    with locks.locked(f"{place.parent}.lock", flag=DIR_FLAG):
      builder = _quietly(make)  # another process may have finished meanwhile
      if not _quietly(builder.is_prepared):
        for stale in place.parent.glob("incomplete.*"):
          stale.rmtree()  # of one that was killed
        _quietly(builder.download_and_prepare, file_format="array_record")
  return _quietly(read_only_builder.builder_from_directory, builder_dir=place)


def _quietly(function, **arguments):
  """Without tfds's own bars and sentences; ours show what matters."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(min(verbosity, logging.ERROR))
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      return function(**arguments)
  finally:
    tfds.enable_progress_bar()
    logging.set_verbosity(verbosity)


def _base(name: str) -> str:
  return name.split(":")[0].split("/")[0]


def _known(name: str) -> bool:
  return _base(name) in tfds.list_builders(with_community_datasets=False)


def _unknown(name: str, flag: str) -> str:
  known = [_DIGITS, *tfds.list_builders(with_community_datasets=False)]
  near = difflib.get_close_matches(_base(name), known, n=_NEAREST, cutoff=0.5)
  hint = f"; nearest: {', '.join(near)}" if near else ""
  return f"{flag}={name}: tfds has no dataset of this name{hint}"


def _why_not_found(name: str, root: str) -> str:
  if not _known(name):
    return _unknown(name, NAME_FLAG)
  return (
    f"{NAME_FLAG}={name}: not prepared in {root}; run"
    f" python launch/prepare_data.py --name={name} --dir={root}"
    f" or point {DIR_FLAG} to where it is"
  )
