"""A run's folder, written as a run writes it, without training anything."""

import json

import numpy as np
from sklearn import datasets

from mmae_jax.train.metrics import Metrics

CONFIG = {
  "name": "mmae",
  "seed": 0,
  "batch_size": 256,
  "epochs": 100,
  "data": {"name": "digits", "dir": "", "folder": "", "workers": 0},
  "views": {"global": {"count": 1, "size": 8, "scale": [0.2, 1.0]}},
  "encoder": {"name": "vit", "width": 64, "depth": 6, "dtype": "float32"},
  "objective": {"name": "mmae", "weight": 0.00125, "mask_ratio": 0.75},
  "optimizer": {"name": "adamw", "learning_rate": 0.0015},
}
HEADER = {
  "versions": {"mmae_jax": "0.1.0", "jax": "0.10.2", "flax": "0.12.8"},
  "commit": "0f3a9c1d2b7e",
  "devices": "1 x cpu",
  "parameters": 412_310,
  "flops_per_step": 3.1e9,
  "memory_bytes": 84_000_000,
}


def digits(count: int) -> np.ndarray:
  """uint8 [count, 8, 8, 3] and labels [count]."""
  bunch = datasets.load_digits()
  images = (bunch.images[:count] * 15.9).astype(np.uint8)
  return np.repeat(images[..., None], 3, axis=-1), bunch.target[:count]


def train_values(step: int, total: int, rng) -> dict:
  """Values as M-MAE on digits gives them."""
  decay = np.exp(-5 * step / total)
  reconstruction = 0.32 + 0.7 * decay + 0.02 * rng.normal()
  regulariser = -42 + 30 * decay + 0.5 * rng.normal()
  warm = min(1.0, 10 * step / total)
  return {
    "loss": np.float32(reconstruction + 0.00125 * regulariser),
    "reconstruction": np.float32(reconstruction),
    "regulariser": np.float32(regulariser),
    "weighted_regulariser": np.float32(0.00125 * regulariser),
    "effective_weight": 0.00125,
    "grad_norm": np.float32(0.2 + 2 * decay * rng.gamma(4, 0.25)),
    "learning_rate": 1.5e-3 * warm * 0.5 * (1 + np.cos(np.pi * step / total)),
    "probe_loss": np.float32(0.2 + 2 * decay + 0.03 * rng.normal()),
    "probe_accuracy": np.float32(min(1, 0.95 - 0.85 * decay)),
    "images_per_second": 5200 + 300 * rng.normal(),
    "data_wait": abs(0.01 + 0.008 * rng.normal()),
  }


def eval_values(share: float) -> dict:
  """Values of one evaluation, `share` of the way through the run."""
  rise = 1 - np.exp(-6 * share)
  return {
    "knn_accuracy": 0.91 + 0.065 * rise,
    "linear_accuracy": 0.84 + 0.12 * rise,
    "effective_rank": 5 + 22 * rise,
    "matrix_entropy": float(np.log(5 + 22 * rise)),
  }


def plane_values(share: float) -> dict:
  """A point of the information plane, `share` of the way through the run."""
  rise = 1 - np.exp(-4 * share)
  values = {"rows": 2048, "sample_rows": 512, "dimensions": 64}
  for side, scale in (("sample", 1.0), ("feature", 1.6)):
    for order in (1, 2):
      one = scale * (0.2 + 2.2 * rise) / order
      joint = one * (1.9 - 0.7 * rise) + (0.2 if order == 2 else 0)
      values |= {
        f"{side}_entropy_{order}_a": one,
        f"{side}_entropy_{order}_b": 0.97 * one,
        f"{side}_joint_entropy_{order}": joint,
        f"{side}_mutual_information_{order}": 1.97 * one - joint,
      }
  return values | {
    "effective_rank_a": np.exp(values["sample_entropy_1_a"]),
    "effective_rank_b": np.exp(values["sample_entropy_1_b"]),
    "effective_rank_once": np.exp(1.1 * values["sample_entropy_1_a"]),
    "entropy_1_once": 1.1 * values["sample_entropy_1_a"],
    "coding_rate": 0.7 + 3 * rise,
    "mean_squared_cosine": np.exp(-values["sample_entropy_2_a"]),
    "alignment": 0.05 + 0.5 * rise * (1 - 0.5 * rise),
    "er_entropy": -20 + 4 * rise,
    "er_uniform_entropy": -15,
    "er_reconstruction": -20 + 0.5 * rise,
    "er_bound": 3.5 * rise,
    "er_ceiling": np.log(2048),
    "dead_features": 0,
  }


def write_plane(
  metrics,
  workdir,
  step: int,
  share: float,
  *,
  epoch=None,
  names=("first_mask", "second_mask"),
  other="once",
):
  """A point of the information plane and its spectra."""
  values = {
    name.replace("_once", f"_{other}"): value
    for name, value in plane_values(share).items()
  }
  metrics.record("plane", step, values, epoch=epoch)
  folder = workdir / "artifacts"
  folder.mkdir(exist_ok=True)
  values = np.exp(-np.arange(64) / (1 + 6 * share))
  values /= values.sum()
  np.savez(
    folder / f"plane-{step}.npz",
    eigenvalues_a=values,
    eigenvalues_b=values,
    names=np.array(names),
  )


def write_artifacts(workdir, step: int, *, labelled=True, images=None):
  """Spectrum, reconstruction and neighbours of one evaluation."""
  folder = workdir / "artifacts"
  folder.mkdir(exist_ok=True)
  rng = np.random.default_rng(step)
  values = np.exp(-np.arange(64) / (3 + step / 100))
  np.savez(folder / f"spectrum-{step}.npz", eigenvalues=values / values.sum())
  labels = None
  if images is None:
    images, labels = digits(200)
  masked = images[:16].copy()
  grid = rng.random((16, 4, 4)) < 0.75
  size = images.shape[1] // 4
  masked[grid.repeat(size, axis=1).repeat(size, axis=2)] = 128
  noise = rng.normal(0, 60 if step == 0 else 15, images[:16].shape)
  np.savez(
    folder / f"reconstruction-{step}.npz",
    image=images[:16],
    masked=masked,
    reconstructed=np.clip(images[:16] + noise, 0, 255).astype(np.uint8),
  )
  if labels is None or not labelled:
    labels = np.full(len(images), -1)
  similarity = np.random.default_rng(0).random((16, 10))
  flat = images.reshape(len(images), -1).astype(float)
  distance = ((flat[:16, None] - flat[None, 16:]) ** 2).sum(-1)
  nearest = 16 + distance.argsort(axis=1)[:, :10]
  np.savez(
    folder / f"neighbours-{step}.npz",
    query=images[:16],
    neighbours=images[nearest],
    query_label=labels[:16],
    neighbour_label=labels[nearest],
    similarity=similarity,
  )


def make_run(
  folder,
  total: int,
  *,
  every=1,
  labelled=True,
  artifacts=True,
  plane=False,
  config=CONFIG,
  status="finished",
):
  """Writes a run of `total` steps below `folder`; returns its workdir."""
  rng = np.random.default_rng(0)
  workdir = folder / f"run-{total}"
  workdir.mkdir()
  (workdir / "config.json").write_text(json.dumps(config))
  with Metrics(
    workdir, total_steps=total, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0, **HEADER)
    for step in range(0, total + 1, every):
      epoch = round(100 * step / total, 3)
      values = train_values(step, total, rng)
      if not labelled:
        values = {k: v for k, v in values.items() if "probe" not in k}
      if step:
        metrics.record("train", step, values, epoch=epoch)
      if step % max(every, total // 10) == 0:
        values = eval_values(step / total)
        if not labelled:
          values = {k: v for k, v in values.items() if "accuracy" not in k}
        metrics.record("eval", step, values, epoch=epoch)
      if plane and step % max(every, total // 20) == 0:
        write_plane(metrics, workdir, step, step / total, epoch=epoch)
    if status:
      metrics.end(total, status=status, seconds=0.16 * total)
  if artifacts:
    for step in (0, total):
      write_artifacts(workdir, step, labelled=labelled)
  return workdir


def make_two_view(folder, objective: str, names, values):
  """Writes a run of a method that compares two views; returns its workdir.

  Args:
    folder: where it is put.
    objective: the method.
    names: of its branches.
    values: share of the run -> what its training records besides.
  """
  workdir = folder / objective
  workdir.mkdir()
  config = json.loads(json.dumps(CONFIG))
  config["objective"] = {"name": objective}
  config["views"]["global"]["count"] = 2
  (workdir / "config.json").write_text(json.dumps(config))
  with Metrics(
    workdir, total_steps=8, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0, **HEADER)
    for step in range(0, 9, 2):
      share = step / 8
      if step:
        common = {"loss": 4 - share, "learning_rate": 0.1, "grad_norm": 1.0}
        metrics.train(step, {**common, **values(share)}, epoch=step)
      write_plane(
        metrics,
        workdir,
        step,
        share,
        epoch=step,
        names=names,
        other="representation",
      )
    metrics.end(8, status="finished", seconds=1.0)
  return workdir
