"""The suite `input` of launch/bench.py."""

import itertools
import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from mmae_jax import augmentations, config as config_lib
from mmae_jax.types import UsageError

_BATCH = 64
# name: (format, width, height, images, size of a view, decoded once?)
_KINDS = {
  "PNG 32 x 32, in memory": ("png", 32, 32, 2048, 32, True),
  "PNG 32 x 32, from disk": ("png", 32, 32, 2048, 32, False),
  "JPEG 500 x 375, from disk": ("jpg", 500, 375, 256, 224, False),
}
# Size of a view: recipes; "" only normalises.
_PHOTOMETRY = {
  224: ("", "simclr", "byol", "moco_v3", "simsiam"),
  32: ("", "simclr", "simclr_cifar10", "solo_learn_asymmetric"),
}


def measure(arguments) -> dict:
  """Images per second of the host's part and of the device's part.

  The host's is `pipeline.host_batches` on synthetic images, the device's the
  photometry of published recipes on two views of each.

  Args:
    arguments: of `bench.parser`; threads, workers and seconds are read.
  Returns:
    {"rows": [{"kind", "threads", "workers", "images_per_second"}],
    "photometry": [{"size", "recipe", "seconds", "images_per_second"}]}; seconds
    is the median of a call with a batch of two views.
  Raises:
    UsageError: numbers of threads or workers that are none.
  """
  threads = _numbers("threads", arguments.threads, 1)
  workers = _numbers("workers", arguments.workers, 0)
  rows = []
  with tempfile.TemporaryDirectory() as scratch:
    for kind, settings in _KINDS.items():
      config = _config(pathlib.Path(scratch), *settings)
      for t, w in itertools.product(threads, workers):
        if w and settings[-1]:
          continue  # workers read from disk only
        config.data.update(threads=t, workers=w)
        rate = _rate(config, arguments.seconds)
        row = {"kind": kind, "threads": t, "workers": w}
        rows.append({**row, "images_per_second": rate})
  photometry = [
    _photometry(size, recipe, arguments.seconds)
    for size, recipes in _PHOTOMETRY.items()
    for recipe in recipes
  ]
  return {"rows": rows, "photometry": photometry}


def show(result: dict) -> None:
  """Prints what `measure` returned."""
  table = Table()
  table.add_column("images")
  for name in ("threads", "workers", "images/s"):
    table.add_column(name, justify="right")
  for row in result["rows"]:
    numbers = (str(row["threads"]), str(row["workers"]))
    table.add_row(row["kind"], *numbers, f"{row['images_per_second']:,.0f}")
  Console(width=100).print(table)
  table = Table()
  table.add_column("photometry on the device")
  for name in ("views", "ms a batch", "images/s"):
    table.add_column(name, justify="right")
  for row in result["photometry"]:
    table.add_row(
      row["recipe"] or "normalise alone",
      f"{_BATCH} x 2 x {row['size']}",
      f"{1000 * row['seconds']:,.1f}",
      f"{row['images_per_second']:,.0f}",
    )
  Console(width=100).print(table)


def _numbers(flag, text, least):
  try:
    numbers = [int(part) for part in text.split(",")]
  except ValueError:
    numbers = []
  if not numbers or min(numbers) < least:
    raise UsageError(
      f"--{flag}={text}: needs numbers of at least {least}, as in 1,2,4"
    )
  return numbers


def _config(scratch, suffix, width, height, count, view, decoded):
  """A config whose data are a folder of synthetic images."""
  folder = scratch / f"{suffix}{width}"
  if not folder.exists():
    _write_images(folder, suffix, width, height, count)
  config = config_lib.base()
  config.name = "bench"
  config.batch_size = _BATCH
  config.views["global"].size = view
  config.data.update(
    name="",
    folder=str(folder),
    dir=str(scratch / "prepared"),
    cache_gib=4.0 if decoded else 0.0,
  )
  return config


def _write_images(folder, suffix, width, height, count):
  """Smooth colours with some noise: files about as large as photographs."""
  rng = np.random.default_rng(0)
  (folder / "train" / "a").mkdir(parents=True)
  for i in range(count):
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
    pixels = np.asarray(smooth) + rng.normal(0, 8, (height, width, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(folder / "train" / "a" / f"{i}.{suffix}", quality=90)


def _rate(config, seconds):
  from mmae_jax.data import pipeline, source

  source.prepare(config)
  batches = pipeline.host_batches(source.open_source(config, "train"), config)
  try:
    for _ in range(2):  # threads and workers start
      next(batches)
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
      count += len(next(batches)["label"])
    return count / spent
  finally:
    batches.close()


def _photometry(size, recipe, seconds):
  """A row of the table: the program that the train step begins with."""
  import jax

  from mmae_jax.data import photometry, pipeline

  config = config_lib.base()
  config.batch_size = _BATCH
  view = config.views["global"]
  view.update(count=2, size=size)
  if recipe:
    view.update(augmentations.views(recipe))
  rng = np.random.default_rng(0)
  batch = {
    name: jax.device_put(rng.integers(0, 255, x.shape).astype(x.dtype))
    for name, x in pipeline.batch_shapes(config).items()
  }
  run, key = jax.jit(photometry.make_photometry(config)), jax.random.key(0)
  jax.block_until_ready(run(key, batch))
  times, end = [], time.perf_counter() + seconds
  while not times or time.perf_counter() < end:
    start = time.perf_counter()
    jax.block_until_ready(run(key, batch))
    times.append(time.perf_counter() - start)
  median = statistics.median(times)
  return {
    "size": size,
    "recipe": recipe,
    "seconds": median,
    "images_per_second": _BATCH / median,
  }
