"""A mistake is one clear error, before anything compiles, with exit code 1.

Every case goes through the programs in launch/, as a user's would; the message
names the value and the flag (or the key of the config) that mends it.
"""

import os
import subprocess
import sys

import numpy as np
from PIL import Image
from programs import refused
import pytest

from mmae_jax.train import step as step_lib

DIGITS = "--config=configs/mmae.py"
TI8 = "--config=configs/mmae.py:vit_ti8"


@pytest.fixture(autouse=True)
def never_compiles(monkeypatch, root, tmp_path):
  """Nothing here may get as far as compiling a step."""

  def reached(*_, **__):
    raise AssertionError("compilation was reached")

  monkeypatch.chdir(root)
  monkeypatch.setattr(step_lib, "compile_step", reached)


def images(folder, *, count=20, classes=("a", "b")):
  """A folder of `count` images in each class."""
  for name in classes:
    (folder / name).mkdir(parents=True)
    for i in range(count):
      pixels = np.full((12, 12, 3), 10 * i, np.uint8)
      Image.fromarray(pixels).save(folder / name / f"{i}.png")
  return folder


@pytest.fixture
def train(tmp_path):
  """train(*flags) -> the message that launch/train.py ends with."""
  return lambda *flags: refused(f"--workdir={tmp_path}/run", *flags)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    # The command line and the config file.
    ([], "--config is missing; for example: python launch/train.py --config="),
    (["--config"], "Missing value for flag --config"),
    (["--config=configs/mme.py"], "--config=configs/mme.py: no such config"),
    (["--config=configs/mme.py"], "there are configs/mmae.py"),
    (["--config=mmae", "--config.epochs=3"], "--config=mmae: no such config"),
    (["--config=configs"], "--config=configs: no such config file"),
    ([f"{DIGITS}:vit_x"], "--config=configs/mmae.py:vit_x: no such argument; "),
    ([f"{DIGITS}:vit_x"], "it takes fashion_mnist, cifar10, vit_ti8"),
    (["configs/mmae.py"], "did you mean --config=configs/mmae.py?"),
    ([DIGITS, "extra"], "extra: unexpected argument"),
    ([DIGITS, "--wrkdir=x"], "flag 'wrkdir'. Did you mean: workdir"),
    ([DIGITS, "--distributed=maybe"], "--distributed=maybe: "),
    (["--config.epochs=3"], "config.epochs"),
    # Keys and types.
    ([DIGITS, "--config.optimzer.b1=1"], "--config.optimzer.b1=1: the config"),
    ([DIGITS, "--config.optimzer.b1=1"], "nearest: --config.optimizer.b1"),
    ([DIGITS, "--config.learning_rate=1"], "--config.optimizer.base_learning"),
    ([DIGITS, "--config.objective.wieght=1"], "--config.objective.weight"),
    ([DIGITS, "--config.views.global.sise=1"], "--config.views.global.size"),
    ([DIGITS, "--config.batch_size=abc"], "--config.batch_size=abc: "),
    ([DIGITS, "--config.batch_size=1.5"], "--config.batch_size=1.5: "),
    ([DIGITS, "--config.epochs=many"], "--config.epochs=many: "),
    ([DIGITS, "--config.probe.enabled=maybe"], "--config.probe.enabled=maybe"),
    ([DIGITS, "--config.views.global.scale=1"], "config.views.global.scale=(1"),
    # Values that no run can use.
    ([DIGITS, "--config.epochs=0"], "--config.epochs=0.0: "),
    (
      [
        DIGITS,
        "--config.epochs=0.01",
        "--config.optimizer.warmup_epochs=0",
      ],
      "--config.epochs=0.01: 0 steps (",
    ),
    ([DIGITS, "--config.seed=-1"], "--config.seed=-1: must be in [0, 2^32)"),
    ([DIGITS, "--config.plane.size=1"], "--config.plane.size=1: must be at le"),
    (
      [DIGITS, "--config.plane.every=2"],
      "--config.plane.every=2.0: must be ",
    ),
    ([DIGITS, "--config.batch_size=0"], "--config.batch_size=0: "),
    ([DIGITS, "--config.batch_size=-8"], "--config.batch_size=-8: "),
    (
      [DIGITS, "--config.epochs=5", "--config.optimizer.warmup_epochs=6"],
      "--config.optimizer.warmup_epochs=6.0: must be between 0 and"
      " --config.epochs=5.0",
    ),
    ([DIGITS, "--config.optimizer.b1=nan"], "--config.optimizer.b1=nan: "),
    (
      [DIGITS, "--config.optimizer.base_learning_rate=-1"],
      "--config.optimizer.base_learning_rate=-1.0: ",
    ),
    ([DIGITS, "--config.views.global.std=(0,1,1)"], "config.views.global.std="),
    (
      [DIGITS, "--config.views.global.size=9"],
      "--config.encoder.patch_size=2: does not divide the image size 9"
      " (--config.views.global.size)",
    ),
    ([DIGITS, "--config.encoder.heads=7"], "--config.encoder.heads=7: "),
    ([DIGITS, "--config.encoder.name=vitt"], "--config.encoder.name=vitt: "),
    ([DIGITS, "--config.encoder.dtype=f8"], "--config.encoder.dtype=f8: "),
    # Batch, devices (8 in the tests), micro-batches, split.
    (
      [DIGITS, "--config.batch_size=12"],
      "--config.batch_size=12: not divisible by 8 devices",
    ),
    (
      [DIGITS, "--config.batch_size=64", "--config.microbatches=7"],
      "--config.microbatches=7: must be a divisor of --config.batch_size=64",
    ),
    (
      [DIGITS, "--config.batch_size=8", "--config.microbatches=4"],
      "--config.batch_size=8: not divisible by 8 devices times"
      " --config.microbatches=4",
    ),
    (
      [DIGITS, "--config.batch_size=2048"],
      "--config.batch_size=2048: larger than the training split (1437 images)",
    ),
    ([DIGITS, "--config.mesh.fsdp=3"], "--config.mesh.fsdp=3: "),
    # Objectives.
    (
      [DIGITS, "--config.objective.name=mmea"],
      "--config.objective.name='mmea': no such objective; available: barlow_tw",
    ),
    (
      [DIGITS, "--config.objective.name=my_lab.nothing"],
      "--config.objective.name=my_lab.nothing: No module named 'my_lab'",
    ),
    ([DIGITS, "--config.objective.name=os.path"], "has no function make"),
    *[
      ([DIGITS, f"--config.objective.{flag}"], f"--config.objective.{flag}: ")
      for flag in (
        "mask_ratio=0.0",
        "mask_ratio=1.0",
        "mask_ratio=0.99",
        "mask_ratio=1.5",
        "weight=-0.5",
        "scale=0.0",
        "scale=-1.0",
        "normaliser=dim",
        "decoder_heads=7",
      )
    ],
    (
      ["--config=configs/umae.py", "--config.objective.weight=-1"],
      "--config.objective.weight=-1.0: ",
    ),
    (
      ["--config=configs/simclr.py", "--config.views.global.count=1"],
      "--config.views.global.count=1: simclr needs 2",
    ),
    (
      [
        "--config=configs/mae.py",
        *("--config.encoder.name=resnet", "--config.encoder.depth=18"),
        "--config.evaluation.pool=mean",
      ],
      "a masked method needs --config.encoder.name=vit",
    ),
    # Data.
    ([TI8], "--config.data.folder is empty"),
    ([f"{DIGITS}:fashion_mnist"], "--config.data.folder is empty"),
    ([TI8, "--config.data.folder=/no/such"], "--config.data.folder=/no/such: "),
    (
      [DIGITS, "--config.data.folder=/my/images"],
      "python launch/train.py --config=configs/mmae.py:vit_s16"
      " --config.data.folder=/my/images",
    ),
    (
      ["--config=configs/mae.py", "--config.data.name=cifar10"],
      "python launch/train.py --config=configs/mae.py:vit_s16"
      " --config.data.name=cifar10",
    ),
    (
      ["--config=configs/byol.py", "--config.data.folder=/my/images"],
      "python launch/train.py --config=configs/byol.py:resnet18",
    ),
    (
      [TI8, "--config.data.name=cifar11"],
      "--config.data.name=cifar11: tfds has no dataset of this name; nearest:"
      " cifar10",
    ),
    (
      [f"{DIGITS}:cifar10", "--config.data.dir=/no/such"],
      "python launch/prepare_data.py --name=cifar10 --dir=/no/such",
    ),
    (
      [DIGITS, "--config.data.train_split=trian"],
      "--config.data.train_split=trian: ",
    ),
  ],
  ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train(train, flags, message):
  assert message in train(*flags)


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (
      ["config.objective.wieght = 1.0"],
      "--config.objective.wieght=1.0: mmae has no such hyperparameter; did you"
      " mean weight?",
    ),
    (
      ["config.objective.mask_ration = 0.5"],
      "--config.objective.mask_ration=0.5: mmae has no such hyperparameter",
    ),
    (["config.objective.weight = 'much'"], "--config.objective"),
    (["config.batch_size = '64'"], "line 5: TypeError: "),
    (["config.epoch = 3", "undefined"], "NameError: name 'undefined'"),
    (["config ="], "SyntaxError: invalid syntax"),
    (["config = None"], "get_config() returns None"),
  ],
  ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_config_file_of_ones_own(train, tmp_path, lines, message):
  path = tmp_path / "my_config.py"
  head = ["from mmae_jax import recipes", "", "def get_config(arg=None):"]
  body = ["config = recipes.masked('mmae', arg)", *lines, "return config"]
  path.write_text("\n".join([*head, *(f"  {line}" for line in body)]) + "\n")
  said = train(f"--config={path}")
  assert message in said and "\n" not in said


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  said = refused(DIGITS, f"--workdir={tmp_path}/file/run")
  assert f"--workdir={tmp_path}/file/run: cannot be written" in said


@pytest.mark.parametrize(
  ("kind", "message"),
  [
    ("empty", "no images in it (it is empty)"),
    ("a file", "is a file, not a folder"),
    ("texts", "no images in it (only 3 .txt)"),
    ("unreadable", "cannot be read (Permission denied"),
    ("rotten", "--config.data.max_rejected=0.01"),
    ("small", "--config.batch_size=256: larger than the training split"),
  ],
)
def test_folders(train, tmp_path, monkeypatch, kind, message):
  folder = tmp_path / "images"
  if kind == "a file":
    folder.write_text("")
  elif kind in ("rotten", "small", "unreadable"):
    images(folder)
  else:
    folder.mkdir()
  if kind == "texts":
    for name in "abc":
      (folder / f"{name}.txt").write_text("no image")
  if kind == "rotten":
    for path in sorted(folder.rglob("*.png"))[:5]:
      path.write_bytes(path.read_bytes()[:50])
  if (
    kind == "unreadable"
  ):  # root reads everything: the system is made to refuse
    scandir = os.scandir

    def refuse(path):
      if str(path).startswith(str(folder)):
        raise PermissionError(13, "Permission denied", str(path))
      return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
  said = train(
    TI8,
    f"--config.data.folder={folder}",
    f"--config.data.dir={tmp_path}/tfds",
  )
  assert message in said
  assert kind == "small" or str(folder) in said


def test_a_run_with_another_config(tmp_path):
  flags = [f"--workdir={tmp_path}", "--config.batch_size=2048"]
  refused(DIGITS, *flags)  # claims the folder, fails later
  other = "--config.batch_size=1600"
  # Nothing was done there, so a mistake may be put right.
  assert "larger than the training split" in refused(DIGITS, other, *flags[:1])
  (tmp_path / "metrics.jsonl").write_text("{}\n")
  said = refused(DIGITS, "--config.batch_size=1024", *flags[:1])
  assert f"--workdir={tmp_path} belongs to a run with another config" in said
  assert "batch_size: 1600 -> 1024" in said


def test_the_first_lines_of_a_shell(root):
  """In a process of its own: exit code, one line on stderr, no traceback."""
  for flags in ([], [DIGITS, "--config.objective.weight=-1"]):
    done = subprocess.run(
      [sys.executable, "launch/train.py", *flags],
      cwd=root,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: --config")
    assert done.stderr.count("\n") == 1
