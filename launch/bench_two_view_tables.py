"""What the suite `step` prints for methods that compare two views."""

import bench_step
from rich.console import Console
from rich.table import Table

OURS, THEIRS = bench_step.OURS, bench_step.THEIRS
DENSE = "matrix_ssl, dense"
_MOST = 0.1  # of the step; losses above it are named


def show(result: dict) -> None:
  """Prints what `bench_two_view.measure` returned."""
  console = Console(width=100)
  setting = result["setting"]
  views = f"{setting['batch']} x 2 x {setting['pixels']}"
  console.print(
    f"{setting['size']}, {views} pixels, {setting['dtype']},"
    f" {setting['device']}, JAX {setting['jax']}; medians of"
    f" {setting['rounds']} rounds in turns"
  )
  rows = [
    (name, f"{row['images_per_second']:.4g}", row)
    for name, row in result["network"].items()
  ]
  console.print(_table("network, both views", "images/s", rows))
  rows = [(row["method"], f"{row['dim']}", row) for row in result["losses"]]
  console.print(_table("loss alone, with gradient", "width", rows))
  rows = [(row["methods"], views, row) for row in result["photometry"]]
  console.print(_table("photometry", "views", rows))
  for name, row in result["network"].items():
    console.print(f"{name}: {row['how']}")
  console.print(
    "of the step: seconds / (seconds + those of the network). Teacher,"
    " optimizer and wider heads make a step longer and the shares smaller."
  )
  above = [
    row["method"]
    for row in result["losses"]
    if row["share_of_step"] > _MOST and row["method"] != DENSE
  ]
  console.print(f"Above {_MOST:.0%} of the step: {', '.join(above) or 'none'}")
  if "dense_ratio" in result:
    console.print(
      f"matrix_ssl is {_times(result['dense_ratio'])} as fast as by the"
      r" authors' \[dim, dim] matrices"
    )
  if "ratio" in result:
    console.print(f"{OURS} is {_times(result['ratio'])} as fast as {THEIRS}")
  elif not setting["no_torch"]:
    console.print(bench_step.NO_TORCH)


def _times(ratio):
  return (
    f"{ratio['median']:.2f} times ({ratio['min']:.2f} to {ratio['max']:.2f})"
  )


def _table(title, second, rows):
  """Rows are (name, text of the second column, what was measured)."""
  table = Table()
  table.add_column(title)
  for name in (second, "ms", "of the step", "temporary", "GFLOP by XLA"):
    table.add_column(name, justify="right")
  for name, text, row in rows:
    used, work = row["temporary_bytes"], row["flops"]
    table.add_row(
      name,
      text,
      f"{1000 * row['seconds_median']:,.4g}",
      f"{row['share_of_step']:.3%}" if "share_of_step" in row else "",
      "unknown" if used is None else f"{used / 2**20:,.4g} MiB",
      "unknown" if work is None else f"{work / 1e9:,.4g}",
    )
  return table
