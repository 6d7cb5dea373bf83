"""The table and the figure of launch/parity.py --train."""

import platform
from typing import Any

import numpy as np

from mmae_jax.report import canvas
from mmae_jax.report.quantities import (
  BLUE,
  FIRST,
  INK,
  MUTED,
  ORANGE,
  TEAL,
  method_name,
)
from mmae_jax.train import versions
from parity_suites.page import cores

_DPI = 96
_ROW = 1.45  # inches
_STEPS = 10
_LIMITS = (3e-8, 0.1)


def setting() -> dict[str, Any]:
  """Where and with what the numbers were made."""
  return {
    "machine": f"{cores()} CPU cores, {platform.machine()}",
    **versions.of("jax", "flax", "torch"),
  }


def table(result: dict[str, Any]) -> str:
  """Markdown: a line a method, and a line a run.

  Args:
    result: of `training.compare`.
  Returns:
    Both tables. Losses of float64 and float32 are how far the two programs are
    apart, relative; the control is what rounding does to PyTorch alone.
  """
  limits = list(result["runs"][0]["parts_at"])
  lines = [
    ", ".join(f"{k} {v}" for k, v in result["setting"].items()),
    "",
    "| method | float64: loss, gradient, weights | float32, first 20 losses;"
    " control | linear JAX / PyTorch | difference; spread | k-NN JAX / PyTorch"
    " | difference; spread | equal |",
    "|---|---|---|---|---|---|---|---|",
  ]
  for method, kinds in result["accuracies"].items():
    runs = [r for r in result["runs"] if r["method"] == method]
    wide = result["wide"][method]
    cells = [
      method_name(method),
      ", ".join(f"{wide[k]:.0e}" for k in ("loss", "gradient", "weights")),
      "; ".join(
        f"{max(r[key] for r in runs):.0e}" for key in ("first", "control")
      ),
    ]
    for kind in ("linear", "knn"):
      v = kinds[kind]
      cells += [
        _pair(v),
        f"{100 * v['difference']:.1f}; {100 * v['spread']:.1f}",
      ]
    equal = all(v["difference"] <= v["spread"] for v in kinds.values())
    cells.append("yes" if equal else "no")
    lines.append(f"| {' | '.join(cells)} |")
  lines += [
    "",
    "| run | steps | first 20 losses; control | apart by"
    f" {limits[0]} | by {limits[1]} | final loss JAX / PyTorch | linear | k-NN"
    " | seconds |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for run in result["runs"]:
    loss, seconds = run["final_loss"], run["seconds"]
    cells = [
      f"{method_name(run['method'])}, seed {run['seed']}",
      str(run["steps"]),
      f"{run['first']:.0e}; {run['control']:.0e}",
      *(_step(run["parts_at"][limit]) for limit in limits),
      f"{loss['jax']:.4f} / {loss['torch']:.4f}",
      _pair(run["linear"]),
      _pair(run["knn"]),
      f"{seconds['jax']:.0f} / {seconds['torch']:.0f}",
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines) + "\n"


def _step(number):
  return f"step {number}" if number else "never"


def _pair(values):
  return f"{100 * values['jax']:.1f} / {100 * values['torch']:.1f} %"


def figure(result: dict[str, Any]) -> bytes:
  """Losses of both programs, and how far they are apart; PNG bytes."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  methods = list(result["accuracies"])
  size = (8.6, 0.6 + _ROW * len(methods))
  drawn = Figure(figsize=size, dpi=_DPI, facecolor="white")
  FigureCanvasAgg(drawn)
  grid = drawn.subplots(len(methods), 2, squeeze=False)
  for row, method in zip(grid, methods, strict=True):
    runs = [r for r in result["runs"] if r["method"] == method]
    _losses(row[0], runs[0])
    _apart(row[1], runs)
    row[0].set_title(
      method_name(method), loc="left", fontsize=9, fontweight="bold", color=INK
    )
  for axes in grid[-1]:
    axes.set_xlabel("step", fontsize=8, color=MUTED, labelpad=2)
  legend = (
    (0.06, "Loss: JAX,", BLUE),
    (0.155, "PyTorch (dashed)", ORANGE),
    (0.56, "Apart, each seed: JAX and PyTorch;", TEAL),
    (0.845, "PyTorch and control", FIRST),
  )
  for x, label, colour in legend:
    drawn.text(
      x, 0.985, label, color=colour, fontsize=8.5, fontweight="bold", va="top"
    )
  drawn.subplots_adjust(
    left=0.06,
    right=0.985,
    top=1 - 0.6 / size[1],
    bottom=0.4 / size[1],
    hspace=0.45,
    wspace=0.16,
  )
  return canvas.png(drawn)


def _losses(axes, run):
  steps = np.arange(1, run["steps"] + 1)
  axes.plot(steps, run["losses"]["jax"], color=BLUE, linewidth=1.4)
  axes.plot(
    steps,
    run["losses"]["torch"],
    color=ORANGE,
    linewidth=1.0,
    linestyle=(0, (3, 3)),
  )
  canvas.style(axes)


def _apart(axes, runs):
  for side, colour in (("control", FIRST), ("jax", TEAL)):
    for run in runs:
      theirs = np.array(run["losses"]["torch"])
      apart = np.abs(np.array(run["losses"][side]) - theirs) / np.abs(theirs)
      # The largest of some steps: where curves cross, they are not equal.
      largest = [
        apart[max(0, i - _STEPS + 1) : i + 1].max() for i in range(len(apart))
      ]
      axes.plot(
        np.arange(1, len(apart) + 1), largest, color=colour, linewidth=1.0
      )
  canvas.style(axes, log=True)
  axes.set_ylim(*_LIMITS)
  for limit in runs[0]["parts_at"]:
    axes.axhline(
      float(limit), color=MUTED, linewidth=0.8, linestyle=(0, (1, 2))
    )
