"""The suite `information` of launch/bench.py.

One BLAS thread on a CPU, as launch/train.py has: JAX hands factorisations to
SciPy's BLAS, whose threads spin while XLA's want to multiply. PyTorch has as
many threads as there are cores.
"""

import itertools
import os
import statistics
import time

import bench_step
import bench_tables
import bench_targets
from rich import progress
from rich.console import Console

from mmae_jax.train import memory
from mmae_jax.types import UsageError

_WARMED_BELOW = 3.0  # seconds; of longer calls the first one counts
_ROUNDS_WITHIN = 3.0  # seconds that the slowest contestant gets, or one call
_TICK = 0.02  # seconds that a round repeats a short call for
_CPU_RATE = 1e11  # FLOP/s, a guess until something has been measured
_SLOWEST_RATE = 1e9  # so that no hiccup at a small size rules out a large one
_MOST_ROWS = 1024  # of the regulariser in the step, at the encoder's own width

show = bench_tables.show
write_beside = bench_tables.write_beside


def measure(arguments) -> dict:
  """Times every quantity at every size, contestants in turns.

  Args:
    arguments: of `bench.parser`.
  Returns:
    {"setting", "step", "regulariser_size", "entries", "agreement", "seconds"};
    an entry is one form of one quantity at one size, forward or with gradient.
  Raises:
    UsageError: sizes that are none.
  """
  started = time.perf_counter()
  batches, dims = _sizes(arguments)
  config = bench_step.recipe(arguments)
  kept = memory.keep_freed_memory()  # before JAX starts; for all contestants
  import jax
  import threadpoolctl

  on_cpu = jax.default_backend() == "cpu"
  with_torch = not arguments.no_torch and bench_step.has_torch("torch")
  if with_torch:
    import torch

    torch.set_num_threads(_cores())
  with threadpoolctl.threadpool_limits(arguments.blas_threads, user_api="blas"):
    step = _step(config)
    import bench_agreement
    import bench_forms

    quantities = bench_forms.quantities(with_torch)
    extra = (min(_MOST_ROWS, batches[-1]), config.encoder.width)
    bench = _Bench(
      extra=extra,
      rounds=arguments.rounds,
      longest=arguments.longest if on_cpu else float("inf"),
      deadline=started + 60 * arguments.minutes,
    )
    plan = list(_plan(quantities, batches, dims, extra))
    screen = Console(stderr=True)
    for name, quantity, batch, dim in progress.track(
      plan, "", console=screen, disable=not screen.is_terminal
    ):
      bench.measure(name, quantity, batch, dim)
    agreement = bench_agreement.agreement(bench.entries)
  for entry in bench.entries:
    if entry["batch"]:
      whole = step["seconds_per_image"] * entry["batch"]
      entry["share_of_step"] = entry["seconds"] / whole
  return {
    "setting": {
      "batches": batches,
      "dims": dims,
      "rounds": arguments.rounds,
      "longest": arguments.longest if on_cpu else None,
      "minutes": arguments.minutes,
      "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      "cores": _cores(),
      "jax": jax.__version__,
      "torch": torch.__version__ if with_torch else None,
      "blas_threads": arguments.blas_threads if on_cpu else None,
      "freed_memory_kept": kept,
    },
    "step": step,
    "regulariser_size": extra,
    "entries": bench.entries,
    "agreement": agreement,
    "seconds": time.perf_counter() - started,
  }


def _sizes(arguments):
  """([batch], [dim]), ascending, out of the command line."""
  sizes = []
  for flag in ("batches", "dims"):
    text = "256,512" if arguments.quick else getattr(arguments, flag)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 1 for part in parts):
      raise UsageError(
        f"--{flag}={text}: needs numbers of at least 2, as in 256,1024"
      )
    sizes.append(sorted({int(part) for part in parts}))
  for flag in ("longest", "minutes", "blas_threads"):
    if not getattr(arguments, flag) > 0:
      raise UsageError(f"--{flag}={getattr(arguments, flag)}: must be positive")
  return sizes


def _plan(quantities, batches, dims, extra):
  """(name, quantity, batch, dim), small before large; batch 0 of a matrix."""
  for batch, dim in sorted(
    {*itertools.product(batches, dims), extra}, key=_size
  ):
    for name, quantity in quantities.items():
      only_extra = batch not in batches or dim not in dims
      if only_extra and name != bench_targets.REGULARISER:
        continue
      if not quantity.of_matrix:
        yield name, quantity, batch, dim
      elif batch == batches[0]:
        yield name, quantity, 0, dim


def _size(shape):
  batch, dim = shape
  return batch * dim * (batch + dim)


def _cores():
  return len(os.sched_getaffinity(0))


def _step(config):
  """The train step of that recipe: {"batch", "seconds", ...}."""
  run, report = bench_step.ours(config)
  run(1)
  times = [bench_step.timed(run, 1) for _ in range(3)]
  seconds = statistics.median(times)
  return {
    "name": f"{config.name}, width {config.encoder.width}",
    "batch": config.batch_size,
    "seconds": seconds,
    "seconds_per_image": seconds / config.batch_size,
    "memory_bytes": report["memory_bytes"](),
  }


class _Bench:
  """The entries measured so far, and what they say of larger sizes."""

  def __init__(self, *, extra, rounds, longest, deadline):
    self.extra = extra
    self.rounds, self.longest, self.deadline = rounds, longest, deadline
    self.entries = []

  def measure(self, name, quantity, batch, dim):
    """Adds the entries of a quantity at a size, forward and with gradient."""
    arrays = quantity.inputs(batch, dim)
    for backward in (False, True):
      runs, entries = {}, {}
      for contestant, form in quantity.forms.items():
        if backward and not form.differentiable:
          continue
        key = (name, contestant, backward)
        expected = self._expected(key, form.work(batch, dim))
        run, temporary = _prepare(quantity, form, arrays, backward)
        entry = {
          "quantity": name,
          "form": contestant,
          "gradient": backward,
          "batch": batch,
          "dim": dim,
          "work": form.work(batch, dim) * (3 if backward else 1),
          "seconds": expected,
          "times": [],
          "value": None,
          "temporary_bytes": temporary,
          "extrapolated": self._too_long(expected),
        }
        entries[contestant] = entry
        if not entry["extrapolated"]:
          runs[contestant] = run
      stated = (batch, dim) in (bench_targets.MATRIX_SSL_SIZE, self.extra)
      self._take_turns(runs, entries, least=3 if stated else 1)
      _compare(entries)
      self.entries += entries.values()

  def _expected(self, key, work):
    """Seconds by the law of growth from the nearest smaller size measured."""
    name, contestant, backward = key
    work *= 3 if backward else 1
    smaller = [
      entry
      for entry in self.entries
      if (entry["quantity"], entry["form"]) == (name, contestant)
      and entry["gradient"] == backward
      and not entry["extrapolated"]
      and entry["work"] <= work
    ]
    if not smaller:
      return work / _CPU_RATE
    nearest = max(smaller, key=lambda entry: entry["work"])
    expected = nearest["seconds"] * work / nearest["work"]
    return min(expected, work / _SLOWEST_RATE)

  def _too_long(self, seconds):
    late = time.perf_counter() + seconds > self.deadline
    return late or seconds > self.longest

  def _take_turns(self, runs, entries, least):
    """Times all contestants, one call of each after the other."""
    for contestant, run in runs.items():
      entry = entries[contestant]
      if entry["seconds"] < _WARMED_BELOW:
        entry["value"] = run()
        entry["seconds"] = _timed(run, 1)
    slowest = max((entries[c]["seconds"] for c in runs), default=0.0)
    rounds = int(_ROUNDS_WITHIN / slowest) if slowest > 0 else self.rounds
    for _ in range(min(max(rounds, least), self.rounds)):
      for contestant, run in runs.items():
        entry = entries[contestant]
        calls = min(max(int(_TICK / entry["seconds"]), 1), 100)
        start = time.perf_counter()
        for _ in range(calls):
          entry["value"] = run()
        entry["times"].append((time.perf_counter() - start) / calls)
        entry["seconds"] = statistics.median(entry["times"])


def _timed(run, calls):
  start = time.perf_counter()
  for _ in range(calls):
    run()
  return time.perf_counter() - start


def _compare(entries):
  """Adds ratios of time, round by round, and differences to the first form."""
  first = next(iter(entries.values()), None)
  for entry in entries.values():
    rounds = list(zip(entry["times"], first["times"], strict=False))
    ratios = [theirs / ours for theirs, ours in rounds]
    if not ratios:
      ratios = [entry["seconds"] / first["seconds"]]
    entry["ratio"] = {
      "min": min(ratios),
      "median": statistics.median(ratios),
      "max": max(ratios),
    }
    entry["difference"] = None
    if entry["value"] is not None and first["value"] is not None:
      scale = abs(first["value"]) or 1.0
      entry["difference"] = abs(entry["value"] - first["value"]) / scale


def _prepare(quantity, form, arrays, backward):
  """(() -> value, bytes of temporary memory or None)."""
  import bench_torch
  import jax

  if form.in_torch:
    run = bench_torch.runner(
      form.function, arrays, learned=quantity.learned, backward=backward
    )
    return run, None
  function = form.function
  if backward:
    function = jax.value_and_grad(function, tuple(range(quantity.learned)))
  compiled = jax.jit(function).lower(*arrays).compile()
  analysis = compiled.memory_analysis()
  placed = None

  def run():
    nonlocal placed
    if placed is None:
      placed = jax.device_put(arrays)
    result = jax.block_until_ready(compiled(*placed))
    return float(result[0] if backward else result)

  return run, analysis and analysis.temp_size_in_bytes
