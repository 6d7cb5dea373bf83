"""IDX files to folders of PNGs, and the program that does it."""

import gzip
import struct
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from mmae_jax.data import idx, source
from mmae_jax.types import UsageError


def _write(path, array):
  head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
  data = head + array.astype(np.uint8).tobytes()
  path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def files(tmp_path):
  """A folder of tiny IDX files, some of them gzipped, and what they hold."""
  rng = np.random.default_rng(0)
  folder = tmp_path / "idx"
  folder.mkdir()
  held = {}
  for split, prefix, count, end in (
    ("train", "train", 30, ".gz"),
    ("test", "t10k", 12, ""),
  ):
    pixels = rng.integers(0, 256, (count, 7, 5))
    labels = np.arange(count) % 12
    _write(folder / f"{prefix}-images-idx3-ubyte{end}", pixels)
    _write(folder / f"{prefix}-labels-idx1-ubyte{end}", labels)
    held[split] = pixels, labels
  return folder, held


def test_round_trip(files, tmp_path, make_config):
  folder, held = files
  out = tmp_path / "out"
  for _ in range(2):  # again over what is there
    assert idx.convert(folder, out) == {"train": 30, "test": 12}
  for split, (pixels, labels) in held.items():
    for i, label in enumerate(labels):
      png = Image.open(out / split / f"{label:02d}" / f"{i:06d}.png")
      np.testing.assert_array_equal(np.asarray(png), pixels[i])
  train, test = source.open_sources(make_config(folder=str(out)))
  assert (len(train), len(test), train.num_classes) == (30, 12, 12)


def test_damaged_files_are_named(files, tmp_path):
  folder, _ = files
  with pytest.raises(UsageError, match="no such folder"):
    idx.convert(tmp_path / "nowhere", tmp_path / "out")
  labels = folder / "t10k-labels-idx1-ubyte"
  data = labels.read_bytes()
  for damaged, message in (
    (data[:-1], "should hold"),
    (b"\0\0\x0d\1" + data[4:], "not an IDX file"),
    (gzip.compress(data)[:-9], "damaged"),
  ):
    labels.write_bytes(damaged)
    with pytest.raises(UsageError, match=rf"t10k-labels.*{message}"):
      idx.convert(folder, tmp_path / "out")
  _write(labels, np.zeros(11))
  with pytest.raises(UsageError, match="12 images and 11 labels"):
    idx.convert(folder, tmp_path / "out")
  labels.unlink()
  with pytest.raises(UsageError, match="no t10k-labels-idx1-ubyte"):
    idx.convert(folder, tmp_path / "out")


def _run(root, *arguments):
  program = [sys.executable, root / "launch/prepare_data.py", *arguments]
  return subprocess.run(program, capture_output=True, text=True)


def test_program(root, files, tmp_path):
  folder, _ = files
  out = tmp_path / "out"
  done = _run(root, f"--idx={folder}", f"--out={out}")
  assert done.returncode == 0, done.stderr
  assert f"--config.data.folder={out}" in done.stdout
  done = _run(root, f"--folder={out}", f"--dir={tmp_path}")
  assert "train (30), test (12)" in done.stdout, done.stderr


def test_program_has_one_line_for_a_mistake(root):
  done = _run(root, "--name=cifar01")
  assert done.returncode == 1 and done.stdout == ""
  last = done.stderr.splitlines()[-1]
  assert last.startswith("error: --name=cifar01") and "cifar10" in last
  assert "Traceback" not in done.stderr
