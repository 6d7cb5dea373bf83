"""The embedded digits, tfds names, their splits and their errors."""

import io
import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets, model_selection
import tensorflow_datasets as tfds

from mmae_jax.data import catalogue, images, source
from mmae_jax.types import UsageError


class TinyEncoded(tfds.core.GeneratorBasedBuilder):
  """A dataset of someone else: odd names, encoded, no test split."""

  VERSION = tfds.core.Version("2.1.0")

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          "id": tfds.features.Text(),
          "picture": tfds.features.Image(shape=(None, None, 1)),
          "kind": tfds.features.ClassLabel(names=["x", "y", "z"]),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples(9), "validation": self._few()}

  def _few(self):
    return self._generate_examples(4)

  def _generate_examples(self, count):
    for i in range(count):
      picture = np.full((4, 5), 10 * i, np.uint8)
      yield i, {"id": str(i), "picture": self._encode(picture), "kind": i % 3}

  def _encode(self, picture):
    return io.BytesIO(images.encode_png(picture))


class TinyArrays(TinyEncoded):
  """One whose images tfds has to encode, which takes TensorFlow."""

  VERSION = tfds.core.Version("1.0.0")

  def _encode(self, picture):
    return picture[..., None]


class NoImages(TinyEncoded):
  """One without any image."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict({"id": tfds.features.Text()}),
    )

  def _generate_examples(self, count):
    for i in range(count):
      yield i, {"id": str(i)}


def _prepared(kind, folder, form="array_record"):
  kind(data_dir=folder).download_and_prepare(file_format=form)


def test_digits_are_the_split_that_is_promised(make_config):
  digits = datasets.load_digits()
  train, test = source.open_sources(make_config())
  splits = model_selection.train_test_split(
    digits.images,
    digits.target,
    test_size=0.2,
    stratify=digits.target,
    random_state=0,
  )
  assert (train.num_classes, train.in_memory) == (10, True)
  assert train.class_names == list("0123456789")
  for ours, wanted, labels in (
    (train, splits[0], splits[2]),
    (test, splits[1], splits[3]),
  ):
    assert len(ours) == len(labels)
    wanted = np.rint(wanted * 255 / 16).astype(np.uint8)
    expected = {
      (image.tobytes(), label)
      for image, label in zip(wanted, labels, strict=True)
    }
    found = {
      (ours[i]["image"][..., 0].tobytes(), ours[i]["label"])
      for i in range(len(ours))
    }
    assert found == expected


def test_memory_holds_what_the_disk_holds(make_config):
  memory, _ = source.open_sources(make_config())
  disk, _ = source.open_sources(make_config(cache_gib=0.0))
  assert not disk.in_memory
  for i in (0, 700, 1436):
    left, right = memory[i], disk[i]
    assert isinstance(right["image"], bytes)
    np.testing.assert_array_equal(left["image"], images.decode(right["image"]))
    assert (left["label"], left["index"]) == (right["label"], i)


def test_splits_as_tfds_writes_them(make_config):
  config = make_config(train_split="train[:100]+test[90%:]", test_split="")
  assert len(source.open_source(config, "train")) == 136
  assert source.open_source(config, "test") is None


@pytest.mark.parametrize(
  "split, spec",
  [
    ("train", "trian"),
    ("train", "train[:99999]"),
    ("train", "train[:x"),
    ("train", "train[:0]"),
    ("train", ""),
    ("test", "tset"),
  ],
)
def test_bad_splits_are_named(make_config, split, spec):
  config = make_config(**{f"{split}_split": spec})
  with pytest.raises(UsageError) as stopped:
    source.open_source(config, split)
  assert f"--config.data.{split}_split={spec}" in str(stopped.value)


def test_any_prepared_tfds_name_can_be_read(make_config, tmp_path):
  _prepared(TinyEncoded, tmp_path)
  config = make_config(name="tiny_encoded", dir=str(tmp_path))
  for name in ("tiny_encoded", "tiny_encoded:2.1.0", "tiny_encoded:2.*.*"):
    config.data.name = name
    train, test = source.open_sources(config)
    assert (len(train), len(test)) == (9, 4)  # "validation" stands in
    assert train.class_names == ["x", "y", "z"]
    record = train[3]
    assert record["image"].shape == (4, 5, 3)
    assert record["image"][0, 0, 0] // 10 % 3 == record["label"]


def test_unknown_name_lists_the_nearest(make_config):
  with pytest.raises(UsageError, match=r"name=cifar01: .*cifar10"):
    source.prepare(make_config(name="cifar01"))
  with pytest.raises(UsageError, match=r"name=Digits!"):
    source.prepare(make_config(name="Digits!"))


def test_unprepared_name_tells_the_command(make_config, tmp_path):
  config = make_config(name="cifar10", dir=str(tmp_path))
  with pytest.raises(UsageError) as stopped:
    source.open_source(config, "train")
  command = f"python launch/prepare_data.py --name=cifar10 --dir={tmp_path}"
  assert command in str(stopped.value)


def test_records_without_an_image(make_config, tmp_path):
  _prepared(NoImages, tmp_path)
  config = make_config(name="no_images", dir=str(tmp_path))
  with pytest.raises(UsageError, match=r"name=no_images: .* no image"):
    source.open_source(config, "train")


def test_files_without_random_access(make_config, tmp_path):
  _prepared(TinyEncoded, tmp_path)
  info = tmp_path / "tiny_encoded/2.1.0/dataset_info.json"
  info.write_text(info.read_text().replace("array_record", "tfrecord"))
  config = make_config(name="tiny_encoded", dir=str(tmp_path))
  with pytest.raises(UsageError, match="as tfrecord, .* random access"):
    source.open_source(config, "train")


def test_a_builder_that_needs_tensorflow_names_the_extra(make_config, tmp_path):
  if "tensorflow" in sys.modules:
    pytest.skip("TensorFlow is loaded here")
  config = make_config(name="tiny_arrays", dir=str(tmp_path))
  try:
    catalogue.prepare(config.data)
  except UsageError as error:
    assert "[prepare]" in str(error) and "--name=tiny_arrays" in str(error)
  else:  # it is installed
    assert len(source.open_source(config, "train")) == 9


_SEVERAL = """
import os, signal, sys
from mmae_jax import config as config_lib
from mmae_jax.data import source
from mmae_jax.data.datasets.digits import digits_dataset_builder

config = config_lib.base()
config.data.dir = sys.argv[1]
real = digits_dataset_builder.Builder._generate_examples

def dying(self, digits, indices):
  for i, example in enumerate(real(self, digits, indices)):
    if i == 100:
      os.kill(os.getpid(), signal.SIGKILL)
    yield example

def start(generate):
  pid = os.fork()
  if not pid:
    digits_dataset_builder.Builder._generate_examples = generate
    train = source.open_source(config, "train")
    os._exit(0 if len(train) == 1437 else 3)
  return pid

def end(pid):
  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

killed = end(start(dying))
several = [end(pid) for pid in [start(real) for _ in range(4)]]
assert killed == -signal.SIGKILL, killed
assert several == [0] * 4, several
assert "tensorflow" not in sys.modules
"""


def test_digits_after_a_kill_and_by_four_processes_at_once(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", _SEVERAL, str(tmp_path)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert not list(tmp_path.rglob("incomplete*"))
  assert done.stdout == ""


_WITHOUT_TENSORFLOW = """
import sys
from mmae_jax import config as config_lib
from mmae_jax.data import pipeline, source

config = config_lib.base()
config.views["global"].size = 8
config.data.update(dir=sys.argv[1], cache_gib=float(sys.argv[2]))
train, test = source.open_sources(config)
batches = pipeline.host_batches(train, config)
next(batches)
batches.close()
assert not [m for m in sys.modules if m.split(".")[0] == "tensorflow"]
"""


@pytest.mark.parametrize("cache_gib", [0.0, 2.0])
def test_nothing_imports_tensorflow(tmp_path, cache_gib):
  done = subprocess.run(
    [sys.executable, "-c", _WITHOUT_TENSORFLOW, str(tmp_path), str(cache_gib)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
