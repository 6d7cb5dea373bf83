"""Starts launch/train.py on a shrunk config, with hooks; reads what it left.

Also the same config in this process, where no signal is involved.
"""

import os
from pathlib import Path
import re
import subprocess
import sys

import jax
import numpy as np
import tiny

from mmae_jax.train import checkpoint, digests, state as state_lib
from mmae_jax.train.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[1]
DRIVER = ROOT / "tests" / "train" / "driver.py"
MARK = "### here"


def config(**changes):
  """configs/mmae.py, shrunk: 22 steps of 64 images; keys as dotted names."""
  c = tiny.shrink(tiny.load_config("mmae"))
  c.encoder.depth = 1  # the loop is tested here, not the network
  c.logging.tensorboard = False
  c.logging.log_every_steps = 1
  c.plane.every = 0.0
  c.checkpoint.every_epochs = 5 / 22
  c.checkpoint.keep = 10
  for key, value in changes.items():
    section = c
    *path, last = key.split(".")
    for name in path:
      section = section[name]
    section[last] = value
  return c


def on_one_device(patch):
  """Runs of this process take one of its devices: compiled, saved sooner."""
  one = state_lib.make_mesh(devices=jax.devices()[:1])
  patch.setattr(state_lib, "make_mesh", lambda **mesh: one)


def flags(workdir, **changes):
  """What launch/train.py is given to run `config(**changes)` in a folder."""
  from mmae_jax import config as config_lib

  base = config_lib.flatten(tiny.load_config("mmae"))
  keys = config_lib.flatten(config(**changes))
  given = [f"--config.{k}={v}" for k, v in keys.items() if v != base[k]]
  return [
    f"--config={ROOT / 'configs' / 'mmae.py'}",
    f"--workdir={workdir}",
    *given,
  ]


def command(workdir, *hooks, **changes):
  """The command line that runs `config(**changes)` in a folder."""
  hooked = [sys.executable, str(DRIVER), *hooks, "--"]
  return hooked + flags(workdir, **changes)


def start(
  workdir, *hooks, devices=1, plain=False, env=None, arguments=(), **changes
):
  """A running process of launch/train.py; see `process`."""
  return process(
    [*command(workdir, *hooks, **changes), *arguments],
    devices=devices,
    plain=plain,
    env=env,
  )


def process(command, *, devices=1, plain=False, env=None):
  """A running process, in a process group of its own.

  Its programs are compiled as a user's are; `plain`: as conftest.py says.
  """
  xla = f"--xla_force_host_platform_device_count={devices}"
  if plain:
    count = xla.partition("=")[0]
    xla = re.sub(rf"{count}=\d+", xla, os.environ["XLA_FLAGS"])
  return subprocess.Popen(
    command,
    env=os.environ | {"XLA_FLAGS": xla} | (env or {}),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )


def wait_for_hook(process):
  """Reads until a hook waits; returns what was printed before."""
  lines = []
  for line in process.stdout:
    if MARK in line:
      return "".join(lines)
    lines.append(line)
  raise AssertionError(f"the hook was never reached:\n{''.join(lines)}")


def finish(process, *, seconds=90):
  """(exit code, what was printed) of a process that ends by itself."""
  try:
    said, _ = process.communicate(timeout=seconds)
  except subprocess.TimeoutExpired:
    process.kill()
    said, _ = process.communicate()
    raise AssertionError(f"it did not end:\n{said}") from None
  return process.returncode, said


def leaves(workdir, step=None):
  """Every array of a checkpoint by its path, as NumPy."""
  step = step or digests.steps(Path(workdir) / "checkpoints")[-1]
  folder = Path(workdir) / "checkpoints" / str(step)
  trees = [checkpoint.read_arrays(folder / n) for n in ("network", "rest")]
  flat, _ = jax.tree_util.tree_flatten_with_path(trees)
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def assert_same_bits(one, other):
  """Two dictionaries of arrays hold the same bytes."""
  assert one.keys() == other.keys()
  for name, leaf in one.items():
    assert leaf.dtype == other[name].dtype, name
    np.testing.assert_array_equal(leaf, other[name], err_msg=name)


def losses(workdir):
  """{step: loss} as the record stands, superseded lines left out."""
  return {
    r["step"]: r["loss"] for r in read_metrics(workdir) if r["kind"] == "train"
  }
