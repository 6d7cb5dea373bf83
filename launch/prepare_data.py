"""Prepares data ahead of time; training then only reads.

  python launch/prepare_data.py --name=cifar10 --dir=/data/tfds
  python launch/prepare_data.py --folder=/my/images
  python launch/prepare_data.py --idx=/usr/share/datasets/fashion-mnist --out=F

The first downloads a tfds dataset and writes it as array_record, the second
does what training would do on first use with --config.data.folder, the third
turns MNIST-style IDX files into train/<class>/*.png and test/<class>/*.png.
"""

import sys

from absl import app, flags

from mmae_jax import command_line, config as config_lib, types
from mmae_jax.data import catalogue, idx

_NAME = flags.DEFINE_string("name", "", "name of a tfds dataset")
_DIR = flags.DEFINE_string("dir", "", "tfds data directory; as config.data.dir")
_FOLDER = flags.DEFINE_string("folder", "", "folder of one's own images")
_HOLDOUT = flags.DEFINE_float(
  "holdout", 0.05, "share held out of a folder without val/ or test/"
)
_MAX_REJECTED = flags.DEFINE_float(
  "max_rejected", 0.01, "share of a folder's files that may be unreadable"
)
_THREADS = flags.DEFINE_integer("threads", 4, "images checked at a time")
_IDX = flags.DEFINE_string("idx", "", "folder of MNIST-style IDX files")
_OUT = flags.DEFINE_string("out", "", "where --idx writes its PNGs")


def prepare() -> str:
  """Does what the flags say; returns one line about it."""
  chosen = [f for f in (_NAME, _FOLDER, _IDX) if f.value]
  if len(chosen) != 1:
    raise types.UsageError(
      "give one of --name, --folder and --idx (see --help)"
    )
  if _IDX.value:
    if not _OUT.value:
      raise types.UsageError("--idx needs --out=FOLDER, where the PNGs go")
    counts = idx.convert(_IDX.value, _OUT.value)
    return (
      f"{counts['train']} training and {counts['test']} test images in"
      f" {_OUT.value}; train with --config.data.folder={_OUT.value}"
    )
  data = config_lib.base().data
  data.update(name=_NAME.value, dir=_DIR.value, folder=_FOLDER.value)
  data.update(
    holdout=_HOLDOUT.value,
    max_rejected=_MAX_REJECTED.value,
    threads=_THREADS.value,
  )
  builder = catalogue.prepare(data)
  splits = catalogue.describe_splits(builder)
  rejected = len(catalogue.rejected(builder))
  left_out = f", {rejected} files left out" if rejected else ""
  return f"{splits}{left_out}: {builder.data_path}"


def main(argv) -> None:
  del argv  # `command_line.parse_flags` refuses arguments
  try:
    print(prepare())
  except types.UsageError as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  app.run(main, flags_parser=command_line.parse_flags)
