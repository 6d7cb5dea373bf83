"""The suite `step` of launch/bench.py."""

import functools
import importlib.util
import pathlib
import statistics
import time

import bench_torch
import numpy as np
from rich.console import Console
from rich.table import Table

from mmae_jax.train import memory
from mmae_jax.types import RunInfo, UsageError

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
OURS, THEIRS = "mmae_jax", "Hugging Face"
NO_TORCH = (
  "no baseline: PyTorch with transformers (extra `torch`) is not installed for"
  " this device"
)


def measure(arguments) -> dict:
  """Times our step and, where there is PyTorch, the other one, in turns.

  Args:
    arguments: of `bench.parser`.
  Returns:
    {"setting", "flops_per_step", "peak", "contestants": {name: {...}},
    "ratio": {"min", "median", "max"}}; a ratio is their seconds over ours in
    the same round, so more than 1 is faster than they are.
  Raises:
    UsageError: sizes that do not fit.
  """
  config = recipe(arguments)
  kept = memory.keep_freed_memory()  # before JAX starts; for both
  import jax

  from mmae_jax.models import MaskedAutoencoder, build_encoder, flops
  from mmae_jax.train import peak

  on_cpu = jax.default_backend() == "cpu"
  steps = arguments.steps or (1 if on_cpu else 10)
  objective = config.objective
  model = MaskedAutoencoder(
    build_encoder(config.encoder, config.views["global"].size),
    objective.decoder_width,
    objective.decoder_depth,
    objective.decoder_heads,
  )
  images = config.batch_size
  work = images * flops.training_flops(model, mask_ratio=objective.mask_ratio)
  contestants = {OURS: ours(config)}
  if not arguments.no_torch and has_torch("torch", "transformers"):
    contestants[THEIRS] = bench_torch.step(config, arguments.torch_compile)

  times = {name: [] for name in contestants}
  for run, report in contestants.values():
    report["first_seconds"] = timed(run, 1)
    timed(run, steps)
  for _ in range(arguments.rounds):
    for name, (run, _) in contestants.items():
      times[name].append(timed(run, steps) / steps)

  device = jax.devices()[0].device_kind
  best = peak.peak_flops(device, arguments.dtype)
  best = best and best * jax.device_count()
  result = {
    "setting": {
      **{name: getattr(arguments, name) for name in _SETTING},
      "steps": steps,
      "devices": f"{jax.device_count()} x {device}",
      "jax": jax.__version__,
      "freed_memory_kept": kept,
    },
    "flops_per_step": work,
    "peak": best,
    "contestants": {},
  }
  for name, (_, report) in contestants.items():
    seconds = statistics.median(times[name])
    result["contestants"][name] = {
      "seconds": times[name],
      "seconds_median": seconds,
      "images_per_second": images / seconds,
      "flops_per_second": work / seconds,
      "share_of_peak": work / seconds / best if best else None,
      **{k: v() if callable(v) else v for k, v in report.items()},
    }
  if THEIRS in times:
    rounds = zip(times[THEIRS], times[OURS], strict=True)
    ratios = [theirs / ours for theirs, ours in rounds]
    result["ratio"] = {
      "min": min(ratios),
      "median": statistics.median(ratios),
      "max": max(ratios),
    }
  return result


_SETTING = (
  "size",
  "objective",
  "batch",
  "dtype",
  "remat",
  "microbatches",
  "rounds",
  "no_torch",
  "torch_compile",
)


def show(result: dict) -> None:
  """Prints what `measure` returned."""
  console = Console(width=100)
  setting = result["setting"]
  console.print(
    f"ViT {setting['size']}, {setting['objective']}, batch {setting['batch']},"
    f" {setting['dtype']}, {setting['devices']}, JAX {setting['jax']};"
    f" a step needs {result['flops_per_step']:.3g} FLOPs"
  )
  table = Table()
  for name in (
    "",
    "s/step",
    "images/s",
    "TFLOP/s",
    "of peak",
    "memory",
    "first",
  ):
    table.add_column(name, justify="right" if name else "left")
  for name, row in result["contestants"].items():
    share, used = row["share_of_peak"], row["memory_bytes"]
    table.add_row(
      name,
      f"{row['seconds_median']:.4g}",
      f"{row['images_per_second']:.4g}",
      f"{row['flops_per_second'] / 1e12:.3g}",
      f"{share:.1%}" if share else "unknown",
      f"{used / 2**30:.2f} GiB" if used else "unknown",
      f"{row['first_seconds'] + row['compile_seconds']:.1f} s",
    )
  console.print(table)
  for name, row in result["contestants"].items():
    console.print(f"{name}: {row['how']}")
  if "ratio" in result:
    ratio = result["ratio"]
    console.print(
      f"{OURS} is {ratio['median']:.2f} times as fast as {THEIRS} (median of"
      f" {setting['rounds']} rounds in turns; {ratio['min']:.2f} to"
      f" {ratio['max']:.2f})"
    )
  elif not setting["no_torch"]:
    console.print(NO_TORCH)


def recipe(arguments):
  """The papers' recipe of that size, with what the command line says."""
  size = arguments.size
  config = config_module(arguments.objective).get_config(
    None if size == "digits" else f"vit_{size}"
  )
  check_numbers(arguments)
  config.batch_size = arguments.batch
  config.microbatches = arguments.microbatches
  config.encoder.dtype = arguments.dtype
  config.encoder.remat = arguments.remat
  return config


def config_module(name):
  """The file configs/NAME.py as a module."""
  path = CONFIGS / f"{name}.py"
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def check_numbers(arguments):
  """Raises UsageError for a number of images, parts or rounds below 1."""
  for flag in ("batch", "microbatches", "rounds"):
    if getattr(arguments, flag) < 1:
      raise UsageError(f"--{flag}={getattr(arguments, flag)}: at least 1")


def has_torch(*modules):
  """Whether these are installed and PyTorch sees the kind of device JAX has."""
  if not all(map(importlib.util.find_spec, modules)):
    return False
  import jax
  import torch

  backend = jax.default_backend()
  return backend == "cpu" or (backend == "gpu" and torch.cuda.is_available())


def timed(run, steps):
  """Seconds that `run(steps)` takes."""
  start = time.perf_counter()
  run(steps)
  return time.perf_counter() - start


def ours(config):
  """(run, report): the program's own train step, without the online probe."""
  import jax

  from mmae_jax import objectives
  from mmae_jax.data import photometry as photometry_lib, pipeline
  from mmae_jax.models import build_encoder
  from mmae_jax.train import (
    optimizer as optimizer_lib,
    state as state_lib,
    step as step_lib,
  )

  size = config.batch_size
  info = RunInfo(
    total_steps=100_000,
    steps_per_epoch=1000,
    num_examples=1000 * size,
    batch_size=size,
    microbatches=config.microbatches,
  )
  mesh = state_lib.make_mesh(**config.mesh)
  state_lib.check_batch(size, config.microbatches, mesh)
  encoder = build_encoder(config.encoder, config.views["global"].size)
  objective = objectives.select(config.objective, encoder, info)
  schedule = optimizer_lib.learning_rate(
    config.optimizer,
    info,
    epochs=config.epochs,
    first_step=objective.learns_from,
  )
  optimizer = optimizer_lib.build(
    config, objective, schedule, total_steps=info.total_steps
  )
  photometry = photometry_lib.make_photometry(config)
  shapes = pipeline.batch_shapes(config)
  state, shardings = state_lib.create_state(
    jax.random.key(0),
    objective,
    optimizer,
    jax.eval_shape(photometry, jax.random.key(0), shapes),
    mesh,
  )
  start = time.perf_counter()
  compiled = step_lib.compile_step(
    functools.partial(
      step_lib.train_step,
      objective=objective,
      optimizer=optimizer,
      photometry=photometry,
      schedule=schedule,
    ),
    state,
    shapes,
    mesh,
    shardings,
  )
  compile_seconds = time.perf_counter() - start
  rng = np.random.default_rng(0)
  batch = jax.device_put(
    {
      name: rng.integers(0, 255, x.shape).astype(x.dtype)
      for name, x in shapes.items()
    },
    jax.NamedSharding(mesh, state_lib.BATCH),
  )
  analysis = compiled.memory_analysis()
  planned = analysis and (
    analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
  )

  def run(steps):
    nonlocal state
    for _ in range(steps):
      state, metrics = compiled(state, batch)
    return float(metrics["loss"])

  def used():
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", planned)

  return run, {
    "compile_seconds": compile_seconds,
    "memory_bytes": used,
    "how": "the step of launch/train.py on uint8 images, without online probe",
  }
