"""The suite `kmeans` of launch/bench.py: DeepCluster's work between epochs.

Spherical k-means on random unit rows, on all devices, and what follows for a
bank of another size from the number of products.
"""

import statistics

import bench_step
from rich.console import Console

from mmae_jax.types import UsageError

_IMAGENET = 1_281_167
_HEADS = 3


def flops(rows: int, dim: int, clusters: int, iterations: int) -> float:
  """Of the assignments, one before each step of the centroids and a last."""
  return 2.0 * rows * dim * clusters * (iterations + 1)


def measure(arguments) -> dict:
  """Times one clustering.

  Args:
    arguments: of `bench.parser`; rows, dim, clusters and rounds are read.
  Returns:
    {"rows", "padded_rows": those of whole blocks, "dim", "clusters",
    "iterations", "seconds", "seconds_median", "flops", "device", "devices"}.
  Raises:
    UsageError: sizes that do not fit.
  """
  sizes = {name: getattr(arguments, name) for name in ("rows", "clusters")}
  if not 2 <= sizes["clusters"] <= sizes["rows"]:
    raise UsageError(
      f"--clusters={sizes['clusters']}: needs 2 to --rows={sizes['rows']}"
    )
  if arguments.dim < 1:
    raise UsageError(f"--dim={arguments.dim}: at least 1")
  bench_step.check_numbers(arguments)
  import jax
  import jax.numpy as jnp

  from mmae_jax import information
  from mmae_jax.objectives import clustering
  from mmae_jax.train import state as state_lib

  dim, iterations = arguments.dim, 10
  mesh = state_lib.make_mesh()
  bank = jax.jit(
    lambda key: information.normalise_rows(
      jax.random.normal(key, (sizes["rows"], dim))
    )
  )(jax.random.key(0))
  blocks = clustering.bank_rows(sizes["rows"])
  padding = blocks[0] * blocks[1] - sizes["rows"]
  bank = jnp.pad(bank, ((0, padding), (0, 0))).reshape(*blocks, dim)
  bank = jax.device_put(bank, jax.NamedSharding(mesh, clustering.BANK))
  cluster = (
    jax.jit(
      lambda key, bank: clustering.spherical_kmeans(
        key, bank, clusters=sizes["clusters"], iterations=iterations
      )
    )
    .lower(jax.random.key(1), bank)
    .compile()
  )

  def run(calls):
    for _ in range(calls):
      found = cluster(jax.random.key(1), bank)
    jax.block_until_ready(found)

  run(1)
  seconds = [bench_step.timed(run, 1) for _ in range(arguments.rounds)]
  return {
    **sizes,
    "dim": dim,
    "iterations": iterations,
    "seconds": seconds,
    "seconds_median": statistics.median(seconds),
    "padded_rows": blocks[0] * blocks[1],
    "flops": flops(blocks[0] * blocks[1], dim, sizes["clusters"], iterations),
    "device": jax.devices()[0].device_kind,
    "devices": jax.device_count(),
  }


def show(result: dict) -> None:
  """Prints what `measure` returned."""
  seconds, rows = result["seconds_median"], result["rows"]
  console = Console(width=100)
  console.print(
    f"k-means of {rows:,} x {result['dim']} rows, {result['clusters']:,}"
    f" clusters, {result['iterations']} iterations, {result['devices']} x"
    f" {result['device']}: {seconds:.3g} s (median of"
    f" {len(result['seconds'])} rounds; {min(result['seconds']):.3g} to"
    f" {max(result['seconds']):.3g}), {result['flops'] / seconds / 1e9:.4g}"
    " GFLOP/s of its products"
  )
  if rows == _IMAGENET:
    return
  whole = seconds * _IMAGENET / result["padded_rows"]
  console.print(
    f"seconds grow with the rows, 2 rows dim clusters (iterations + 1) FLOP:"
    f" ImageNet's {_IMAGENET:,} rows take {whole:.4g} s a clustering,"
    f" {_HEADS * whole:.4g} s for the {_HEADS} of DeepCluster-v2's epoch"
  )
