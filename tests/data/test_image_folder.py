"""One's own folder: classes, splits, odd files, the ledger, being killed."""

import itertools
import json
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from mmae_jax.data import images, source
from mmae_jax.data.datasets.image_folder import scan as scan_lib
from mmae_jax.types import UsageError


def _scan(root, holdout=0.05):
  return scan_lib.scan(str(root), holdout=holdout, flag="--folder")


def _paths(files):
  return {file.path for file in files}


def test_classes_are_sub_folders(make_folder, make_config):
  root = make_folder({"dog": 6, "cat/black": 5, "cat/white": 4})
  (root / "notes.txt").write_text("not an image")
  (root / ".hidden.png").write_text("not looked at")
  config = make_config(folder=str(root), holdout=0.2)
  train, test = source.open_sources(config)
  assert len(train) + len(test) == 15 and len(test) > 0
  assert train.class_names == ["cat", "dog"] and train.num_classes == 2
  assert train.rejected == [] and train.in_memory
  labels = [s[i]["label"] for s in (train, test) for i in range(len(s))]
  assert np.bincount(labels).tolist() == [9, 6]
  first = np.asarray(Image.open(root / "dog/000.png"))
  dogs = [s[i] for s in (train, test) for i in range(len(s))]
  assert any((dog["image"] == first).all() for dog in dogs if dog["label"])


def test_holdout_is_a_fixed_hash(make_folder):
  names = [f"a/{i}.png" for i in range(2000)]
  share = np.mean([scan_lib.share_of(f"holdout/{n}") < 0.05 for n in names])
  assert 0.04 < share < 0.06
  root = make_folder({"a": 40, "b": 40})
  before = _scan(root, 0.2)
  assert before.splits["test"] == _scan(root, 0.2).splits["test"]
  # Pinned: another hash would move images between training and test.
  assert scan_lib.share_of("holdout/cat/001.png") == 0.8816430570029866
  chosen = sorted(_paths(before.splits["test"]))
  assert 8 <= len(chosen) <= 26
  (root / chosen[0]).unlink()  # the others stay where they are
  after = _scan(root, 0.2)
  for split in ("train", "test"):
    left = _paths(before.splits[split]) - {chosen[0]}
    assert _paths(after.splits[split]) == left
  more = _paths(_scan(root, 0.4).splits["test"])
  assert more > _paths(after.splits["test"])
  assert "test" not in _scan(root, 0).splits


def test_any_beginning_is_a_fair_sample(make_folder):
  files = _scan(make_folder({"a": 100, "b": 100}), 0).splits["train"]
  assert 20 < sum(file.label for file in files[:60]) < 40


@pytest.mark.parametrize("held", ["val", "valid", "validation", "test"])
def test_splits_that_are_there_are_honoured(make_folder, make_config, held):
  root = make_folder({"train/a": 5, "train/b": 3, f"{held}/b": 2})
  train, test = source.open_sources(make_config(folder=str(root)))
  assert (len(train), len(test)) == (8, 2)
  assert [test[i]["label"] for i in range(2)] == [1, 1]


def test_unlabelled_test_images_do_not_hide_the_validation(make_folder):
  root = make_folder({"train/a": 5, "val/a": 3, "test": 4})
  assert set(_scan(root).splits) == {"train", "validation"}


def test_a_class_may_be_called_train(make_folder):
  scan = _scan(make_folder({"train": 3, "bus": 3}), 0)
  assert scan.class_names == ["bus", "train"]


@pytest.mark.parametrize("folders", [{"": 6}, {"train": 5, "test": 2}])
def test_flat_folder_is_unlabelled(make_folder, make_config, folders):
  root = make_folder(folders)
  train = source.open_source(make_config(folder=str(root)), "train")
  assert train.num_classes == 0 and train.class_names is None
  assert train[0]["label"] == -1 and train[0]["index"] == 0


def test_without_holdout_there_is_no_test_split(make_folder, make_config):
  config = make_config(folder=str(make_folder({"a": 3})), holdout=0.0)
  assert source.open_source(config, "test") is None


def test_links_to_folders_above_end(make_folder):
  root = make_folder({"a": 2, "b": 2})
  (root / "a/loop").symlink_to(root / "a")
  (root / "a/gone.png").symlink_to(root / "nowhere")
  assert _scan(root).num_files == 4


def test_ledger_lists_every_rotten_file(make_folder, make_config):
  root = make_folder({"a": 8, "b": 8})
  good = (root / "a/000.png").read_bytes()
  (root / "a/cut.png").write_bytes(good[:-40])
  (root / "b/empty.jpg").write_bytes(b"")
  (root / "stray.png").write_bytes(good)
  config = make_config(folder=str(root), cache_gib=0.0)
  with pytest.raises(UsageError) as stopped:
    source.prepare(config)
  message = str(stopped.value)
  assert "3 of 19" in message and "--config.data.max_rejected=0.01" in message
  for name in ("a/cut.png", "b/empty.jpg: empty file", "stray.png"):
    assert name in message
  config.data.max_rejected = 0.2
  train, test = source.open_sources(config)
  assert len(train) + (len(test) if test else 0) == 16
  reasons = {entry["file"]: entry["reason"] for entry in train.rejected}
  assert set(reasons) == {"a/cut.png", "b/empty.jpg", "stray.png"}
  assert all(reasons.values())
  assert len(images.decode(train[0]["image"])) == 12


def test_changed_content_is_prepared_anew(make_folder, make_config):
  root = make_folder({"a": 4})
  config = make_config(folder=str(root), holdout=0.0)
  assert len(source.open_source(config, "train")) == 4
  Image.new("RGB", (3, 3)).save(root / "a/new.png")
  assert len(source.open_source(config, "train")) == 5


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda root: root / "nowhere", "no such folder"),
    (lambda root: root / "a/000.png", "is a file"),
    (lambda root: root / "empty", "it is empty"),
    (lambda root: root / "texts", "only 2 .txt"),
  ],
)
def test_folders_without_images(make_folder, make_config, make, message):
  root = make_folder({"a": 1})
  (root / "empty").mkdir()
  (root / "texts").mkdir()
  for name in ("1.txt", "2.txt"):
    (root / "texts" / name).write_text("hello")
  path = make(root)
  with pytest.raises(UsageError, match=message) as stopped:
    source.prepare(make_config(folder=str(path)))
  assert f"--config.data.folder={path}" in str(stopped.value)


def test_folder_that_may_not_be_read(make_folder, monkeypatch):
  root = make_folder({"a": 1})

  def refuse(path):
    raise PermissionError(13, "Permission denied", str(path))

  monkeypatch.setattr(scan_lib.os, "scandir", refuse)
  with pytest.raises(UsageError, match=r"--folder=.*Permission denied"):
    _scan(root)


@pytest.mark.parametrize(
  "key, value", [("holdout", 1.0), ("holdout", -0.1), ("max_rejected", 2.0)]
)
def test_shares_out_of_range(make_folder, make_config, key, value):
  config = make_config(folder=str(make_folder({"a": 1})), **{key: value})
  with pytest.raises(UsageError, match=f"--config.data.{key}={value}"):
    source.prepare(config)


def test_nothing_usable_is_an_error(make_folder, make_config):
  root = make_folder({"a": 2})
  for path in (root / "a").iterdir():
    path.write_text("no longer an image")
  config = make_config(folder=str(root), max_rejected=1.0)
  with pytest.raises(UsageError, match="no training image"):
    source.prepare(config)


def test_data_dir_that_is_a_file(make_folder, make_config, tmp_path):
  (tmp_path / "file").write_text("")
  config = make_config(
    folder=str(make_folder({"a": 1})), dir=str(tmp_path / "file")
  )
  with pytest.raises(UsageError, match=r"--config.data.dir=.*cannot write"):
    source.prepare(config)


def test_folders_are_prepared_on_a_local_disk(make_folder, make_config):
  config = make_config(folder=str(make_folder({"a": 1})), dir="gs://bucket/x")
  with pytest.raises(UsageError, match=r"data.dir=gs://bucket/x: .*local"):
    source.prepare(config)


# Each child dies at the n-th rename, link or record; the parent starts no
# thread, so it may fork.
_KILLED = """
import json, os, pathlib, signal, sys
from mmae_jax import config as config_lib
from mmae_jax.data import source
from mmae_jax.data.datasets.image_folder import shards

folder, data = sys.argv[1:]
shards._FILES_PER_SHARD = 4
config = config_lib.base()
config.data.update(folder=folder, dir=data, holdout=0.0)

def prepare(name, after):
  def dying(*args, _real=getattr(os, name), _left=[after]):
    if not _left[0]:
      os.kill(os.getpid(), signal.SIGKILL)
    _left[0] -= 1
    return _real(*args)
  if name:
    setattr(os, name, dying)
  source.prepare(config)

def child(name, after):
  pid = os.fork()
  if not pid:
    if name == "none":
      source.prepare(config)
    else:
      prepare(name, after)
    os._exit(0)
  status = os.waitpid(pid, 0)[1]
  files = pathlib.Path(data).rglob("*")
  kept = {p.name: p.stat().st_ino for p in files if p.is_file()}
  print(json.dumps([os.waitstatus_to_exitcode(status), kept]), flush=True)

for point in [("replace", 0), ("replace", 1), ("replace", 4), ("link", 2),
              ("rename", 0), ("none", 0)]:
  child(*point)
"""


def test_killed_preparation_keeps_its_finished_shards(
  make_folder, make_config, tmp_path
):
  root = make_folder({"a": 10, "b": 7})
  data = tmp_path / "tfds"
  done = subprocess.run(
    [sys.executable, "-c", _KILLED, str(root), str(data)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  lines = [json.loads(line) for line in done.stdout.splitlines()]
  codes, kept = zip(*lines, strict=True)
  assert codes == (-9, -9, -9, -9, -9, 0)
  for before, after in itertools.pairwise(kept[:4]):
    finished = [name for name in before if f"{name}.json" in before]
    for name in finished:
      assert after[name] == before[name], f"{name} was written again"
  assert "train-00001.json" in kept[2]
  left = {name for name in kept[-1] if ".part" in name or name == "train-0000"}
  assert not left and not list(data.rglob("incomplete*"))
  train = source.open_source(
    make_config(folder=str(root), dir=str(data), holdout=0.0), "train"
  )
  assert len(train) == 17
  assert len(list(data.rglob("*.array_record-*-of-00005"))) == 5
  assert not list(data.rglob("unfinished"))
