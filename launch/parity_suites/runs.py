"""One run on both sides, for the suite `training`; kept in a folder."""

from collections.abc import Callable
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import numpy as np

from mmae_jax.types import UsageError
from parity_suites import page

ROOT = pathlib.Path(__file__).resolve().parents[2]


def kept(path: pathlib.Path, compute: Callable[[], Any]) -> Any:
  """What a JSON file holds, else what is computed and then kept there."""
  if path.exists():
    return json.loads(path.read_text())
  value = compute()
  page.replace(path, json.dumps(value))
  return value


def read_config(workdir: pathlib.Path) -> Any:
  """The ConfigDict of a run."""
  from mmae_jax import config as config_lib

  return config_lib.from_json((workdir / "config.json").read_text())


def train_ours(
  folder: pathlib.Path, method: str, *, seed: int, epochs: float
) -> tuple[list[float], float]:
  """Runs launch/train.py, a process of its own, unless it has finished.

  Args:
    folder: gets jax/, the run, and train.log.
    method: name of the config.
    seed, epochs: of the run.
  Returns:
    (the loss of every step, seconds).
  Raises:
    UsageError: the program failed.
  """
  from mmae_jax.report import comparison
  from mmae_jax.train.metrics import read_metrics

  workdir = folder / "jax"
  changes = {
    "seed": seed,
    "epochs": float(epochs),
    # What is logged and measured besides; of no consequence for the weights.
    "logging.log_every_steps": 1,
    "logging.tensorboard": False,
    "plane.every": 0.0,
    "evaluation.every_epochs": float(epochs),
    "checkpoint.every_epochs": float(epochs),
  }
  command = [
    sys.executable,
    str(ROOT / "launch" / "train.py"),
    f"--config={ROOT / 'configs' / method}.py",
    f"--workdir={workdir}",
    *(f"--config.{key}={value}" for key, value in changes.items()),
  ]
  environment = {
    **{k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "jax_cache"),
  }
  if not comparison.is_finished(workdir):
    folder.mkdir(exist_ok=True)
    with open(folder / "train.log", "a") as log:
      done = subprocess.run(
        command, env=environment, stdout=log, stderr=log, check=False
      )
    if done.returncode:
      raise UsageError(f"{method}: see {folder / 'train.log'}")
  records = read_metrics(workdir)
  losses = [r["loss"] for r in records if r["kind"] == "train"]
  return losses, max(r["seconds"] for r in records if r["kind"] == "end")


def make_trainer(config: Any, feed: Any, *, nudged: bool = False) -> Any:
  """The reference at the beginning of a run; `nudged`: see `train_theirs`."""
  from torch_reference import trainer

  return trainer.Trainer(
    config.to_dict(),
    _nudge(feed.tensors()) if nudged else feed.tensors(),
    steps_per_epoch=feed.info.steps_per_epoch,
    total_steps=feed.info.total_steps,
  )


def _nudge(tensors):
  """Every weight a last bit of float32 larger or smaller."""
  bits = np.random.default_rng(0)

  def moved(x):
    signs = bits.choice([-1, 1], x.shape)
    return (x * (1 + signs * 2.0**-23)).astype(x.dtype)

  fixed = ("pos_embed", "num_batches_tracked")
  return {
    name: x if name.endswith(fixed) else moved(x) for name, x in tensors.items()
  }


def claim(folder: pathlib.Path, setting: dict[str, Any]) -> None:
  """Takes a folder for runs of today's code and versions.

  Args:
    folder: of the runs; "made_by.json" in it says by what they were made.
    setting: versions and machine.
  Raises:
    UsageError: what is kept there was made by others.
  """
  digest = hashlib.sha256()
  for part in ("mmae_jax", "configs", "launch", "tests/torch_reference"):
    for path in sorted((ROOT / part).rglob("*.py")):
      digest.update(path.read_bytes())
  own = {**setting, "code": digest.hexdigest()}
  if kept(folder / "made_by.json", lambda: own) != own:
    raise UsageError(
      f"{folder}: what is kept there was trained by other code or versions;"
      " choose another --out, or remove it"
    )


def train_theirs(
  folder: pathlib.Path, *, nudged: bool = False
) -> dict[str, Any]:
  """Trains the reference on what the run in jax/ was fed.

  Args:
    folder: gets torch.pth, the weights.
    nudged: a control, which keeps no weights: the last bit of every initial
      weight is another, so that what it and the reference are apart is what
      rounding does to this training.
  Returns:
    "losses" of every step, "steps_per_epoch", "seconds" without the input.
  """
  import torch

  from parity_suites import feed as feed_lib

  torch.set_num_threads(1)  # so small a step has no work for more
  config = read_config(folder / "jax")
  feed = feed_lib.Feed(config)
  theirs = make_trainer(config, feed, nudged=nudged)
  losses, seconds = [], 0.0
  for batch in feed.batches(feed.info.total_steps):
    began = time.perf_counter()
    losses.append(theirs.step(batch["global"], batch["noise"])[0])
    seconds += time.perf_counter() - began
  if not nudged:
    torch.save({"model": theirs.network.state_dict()}, folder / "torch.pth")
  return {
    "losses": losses,
    "steps_per_epoch": feed.info.steps_per_epoch,
    "seconds": seconds,
  }
