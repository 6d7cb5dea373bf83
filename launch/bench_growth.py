"""The plot of launch/bench.py --suite=information: time over dim and batch."""

import io

from bench_targets import DENSE, OURS

_COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7")
_GUIDES = ((2, "quadratic", (0, (1, 2))), (3, "cubic", (0, (4, 2))))


def plot(result: dict) -> bytes:
  """PNG: seconds against dim and against batch, both axes logarithmic.

  Filled: measured, open: extrapolated; broken lines are the dense forms in
  JAX. Quantities with a gradient are forward and backward.

  Args:
    result: of `bench_information.measure`.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(10, 5.4), dpi=110, layout="constrained")
  FigureCanvasAgg(figure)
  entries = [entry for entry in _shown(result["entries"]) if entry["batch"]]
  batch = _middle(result["setting"]["batches"])
  dim = _middle(result["setting"]["dims"])
  left, right = figure.subplots(1, 2, sharey=True)
  _panel(left, [e for e in entries if e["batch"] == batch], "dim")
  _panel(right, [e for e in entries if e["dim"] == dim], "batch")
  left.set_title(f"batch {batch}", fontsize=10)
  right.set_title(f"dim {dim}", fontsize=10)
  left.set_ylabel("seconds, forward and backward")
  handles, labels = left.get_legend_handles_labels()
  if handles:
    figure.legend(
      handles,
      labels,
      loc="outside lower center",
      ncols=3,
      fontsize=8,
      frameon=False,
    )
  file = io.BytesIO()
  figure.savefig(file, format="png")
  return file.getvalue()


def _middle(sizes):
  return sizes[(len(sizes) - 1) // 2]


def _shown(entries):
  """Ours and the dense form in JAX, with gradient where there is one."""
  with_gradient = {e["quantity"] for e in entries if e["gradient"]}
  for entry in entries:
    best = entry["quantity"] in with_gradient
    if entry["form"] in (OURS, DENSE) and entry["gradient"] == best:
      yield entry


def _panel(axes, entries, by):
  curves = {}
  for entry in sorted(entries, key=lambda e: e[by]):
    key = entry["quantity"], entry["form"]
    curves.setdefault(key, []).append(entry)
  quantities = list(dict.fromkeys(quantity for quantity, _ in curves))
  for (quantity, form), points in curves.items():
    colour = _COLOURS[quantities.index(quantity) % len(_COLOURS)]
    ours = form == OURS
    sizes = [point[by] for point in points]
    axes.plot(
      sizes,
      [point["seconds"] for point in points],
      color=colour,
      linestyle="-" if ours else "--",
      linewidth=1.4,
      label=quantity if ours else f"{quantity}, {form}",
    )
    for point in points:
      axes.plot(
        point[by],
        point["seconds"],
        marker="o",
        markersize=4,
        color=colour,
        markerfacecolor="white" if point["extrapolated"] else colour,
      )
  _guides(axes, entries, by)
  axes.set_xscale("log", base=2)
  axes.set_yscale("log")
  axes.set_xlabel(by)
  axes.grid(color="0.92", linewidth=0.6)
  axes.set_axisbelow(True)


def _guides(axes, entries, by):
  """Lines of slope 2 and 3 through the slowest entry of the largest size."""
  if not entries:
    return
  first, last = min(e[by] for e in entries), max(e[by] for e in entries)
  top = max(e["seconds"] for e in entries if e[by] == last)
  for power, name, style in _GUIDES:
    axes.plot(
      [first, last],
      [top * (first / last) ** power, top],
      color="0.55",
      linestyle=style,
      linewidth=1.0,
      label=name,
    )
