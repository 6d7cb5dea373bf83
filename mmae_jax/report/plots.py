"""Figures of the report: PNG bytes out of arrays.

matplotlib is imported when the first figure is drawn, and only its Agg canvas
is used: neither pyplot nor the global settings of the caller are touched.
"""

from collections.abc import Sequence
import io
from typing import NamedTuple

import numpy as np

from mmae_jax.report.quantities import (
  FIRST,
  GRID,
  INK,
  MUTED,
  ROSE,
  compact,
  readable,
)

MAX_POINTS = 600
_BINS = 400
_DPI = 180


class Line(NamedTuple):
  """One curve: label, steps [n], values [n] (NaN is a gap), colour."""

  label: str
  steps: np.ndarray
  values: np.ndarray
  colour: str


def envelope(steps: np.ndarray, values: np.ndarray, *, bins: int = _BINS):
  """Means and extremes of neighbouring points, so that no spike is lost.

  Args:
    steps: [n], ascending.
    values: [n]; NaN is ignored, a bin of nothing else is NaN.
    bins: the most points that come back.
  Returns:
    steps, mean, lowest and highest of each bin, four arrays of equal length.
  """
  edges = np.unique(np.linspace(0, len(steps), bins + 1).astype(int)[:-1])
  finite = np.isfinite(values)
  count = np.add.reduceat(finite.astype(np.float64), edges)
  total = np.add.reduceat(np.where(finite, values, 0.0), edges)
  mean = np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
  size = np.diff(np.append(edges, len(steps)))
  centre = np.add.reduceat(steps.astype(np.float64), edges) / size
  values = np.where(finite, values, np.nan)
  lowest = np.fmin.reduceat(values, edges)
  return centre, mean, lowest, np.fmax.reduceat(values, edges)


def curves(
  title: str,
  lines: Sequence[Line],
  *,
  unit: str = "",
  marks: Sequence[int] = (),
  wide: bool = False,
) -> bytes:
  """Quantities over training, with their last values in the heading.

  Args:
    title: stands at the upper left, with the unit.
    lines: the curves; one alone needs no label.
    unit: "%" for shares between 0 and 1, else written as it stands.
    marks: steps of restarts, drawn as dotted lines.
    wide: twice the width.
  Returns:
    PNG bytes.
  """
  figure, axes = _canvas(wide=wide, rows=1 if len(lines) < 2 else 2)
  for line in lines:
    _draw(axes, line)
  finite = np.concatenate([line.values for line in lines])
  finite = finite[np.isfinite(finite)]
  log = len(finite) > 0 and finite.min() > 0
  log = log and unit != "%" and finite.max() > 30 * np.median(finite)
  _style(axes, unit=unit, log=log)
  if not log and len(finite) and np.ptp(finite) < 1e-9 * np.abs(finite).max():
    margin = 0.1 * abs(finite[0])
    axes.set_ylim(finite[0] - margin, finite[0] + margin)
  # One beginning for all panels, so that they can be read beside one another.
  last = max(max(line.steps.max(initial=0) for line in lines), 1)
  axes.set_xlim(-0.03 * last, 1.03 * last)
  for mark in marks:
    axes.axvline(mark, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
  axes.set_xlabel("step", fontsize=8, color=MUTED, labelpad=2)
  shown = f"{title} ({unit})" if unit not in ("", "%") else title
  _heading(figure, shown + (", log scale" if log else ""), lines, unit)
  return _png(figure)


def spectra(spectrums: Sequence[tuple[int, np.ndarray]]) -> bytes:
  """Eigenvalues in descending order, first against last, on a log scale.

  Args:
    spectrums: (step, eigenvalues [dim] of unit trace), oldest first.
  Returns:
    PNG bytes.
  """
  figure, axes = _canvas(wide=False, rows=2)
  lines = []
  for number, (step, values) in enumerate(spectrums):
    last = number == len(spectrums) - 1
    line = Line(
      f"step {step:,}",
      np.arange(1, len(values) + 1),
      np.maximum(values, 0.0),
      ROSE if last else FIRST,
    )
    axes.plot(
      line.steps,
      np.where(line.values > 0, line.values, np.nan),
      color=line.colour,
      linewidth=1.8,
      marker="o" if len(values) <= 40 else None,
      markersize=3,
    )
    lines.append(line)
  dim = max(len(line.values) for line in lines)
  top = max(line.values.max(initial=0.0) for line in lines) or 1.0
  low = min(
    (line.values[line.values > 0].min(initial=top) for line in lines),
    default=top,
  )
  _style(axes, unit="", log=True)
  # Below 1e-7 of the largest a float32 spectrum is rounding, not structure.
  axes.set_ylim(max(0.5 * low, 1e-7 * top), 2.0 * top)
  axes.set_xlim(0.5, dim + 0.5)
  axes.axhline(1 / dim, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
  axes.set_xlabel("index (dotted: all equal)", fontsize=8, color=MUTED)
  _heading(figure, "Eigenvalues, log scale", lines, None)
  return _png(figure)


# ------------------------------------------------------------------- parts


def _canvas(*, wide: bool, rows: int):
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  width, height = (8.6 if wide else 4.2), 2.75
  figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
  FigureCanvasAgg(figure)
  left, bottom, top = 0.56, 0.46, (0.36 if rows == 1 else 0.6)
  axes = figure.add_axes(
    (
      left / width,
      bottom / height,
      1 - (left + 0.12) / width,
      1 - (bottom + top) / height,
    )
  )
  return figure, axes


def _draw(axes, line: Line):
  steps, values = line.steps, line.values
  if len(steps) > MAX_POINTS:
    steps, values, lowest, highest = envelope(steps, values)
    axes.fill_between(
      steps, lowest, highest, color=line.colour, alpha=0.18, linewidth=0
    )
  few = len(steps) <= 40
  axes.plot(
    steps,
    values,
    color=line.colour,
    linewidth=1.6 if few or len(line.steps) > MAX_POINTS else 1.2,
    marker="o" if few else None,
    markersize=3.2,
    solid_joinstyle="round",
  )


def _style(axes, *, unit: str, log: bool):
  from matplotlib import ticker

  for side in ("top", "right", "left"):
    axes.spines[side].set_visible(False)
  axes.spines["bottom"].set_color(FIRST)
  axes.grid(axis="y", color=GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(which="both", length=0, labelsize=8, labelcolor=MUTED, pad=4)
  axes.tick_params(axis="x", length=3, color=FIRST)
  axes.xaxis.set_major_locator(
    ticker.MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
  )
  axes.xaxis.set_major_formatter(
    ticker.FuncFormatter(lambda x, _: compact(x, largest=axes.get_xlim()[1]))
  )
  if log:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    return
  axes.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))

  def write(y, _):
    if unit == "%":
      return f"{100 * y:.4g} %"
    return compact(y, largest=axes.get_ylim()[1])

  axes.yaxis.set_major_formatter(ticker.FuncFormatter(write))


def _heading(figure, title: str, lines: Sequence[Line], unit: str | None):
  """The title; below it, or at its right, labels and last values in colour."""
  from matplotlib import offsetbox

  def text(content, colour, weight="normal", size=8.5):
    properties = {"color": colour, "fontsize": size, "fontweight": weight}
    return offsetbox.TextArea(content, textprops=properties)

  def place(box, loc, y):
    figure.add_artist(
      offsetbox.AnchoredOffsetbox(
        loc=loc,
        child=box,
        pad=0,
        borderpad=0,
        frameon=False,
        bbox_to_anchor=(
          0.012 if loc == "upper left" else 0.985,
          1 - y / figure.get_figheight(),
        ),
        bbox_transform=figure.transFigure,
      )
    )

  def value(line):
    finite = line.values[np.isfinite(line.values)]
    plain = unit if unit == "%" else ""
    return readable(finite[-1] if len(finite) else None, plain)

  place(text(title, INK, "bold", 9.5), "upper left", 0.06)
  if len(lines) == 1 and unit is not None:
    line = lines[0]
    place(text(value(line), line.colour, "bold", 9.5), "upper right", 0.06)
    return
  entries = [
    text(
      line.label if unit is None else f"{line.label} {value(line)}",
      line.colour,
      "bold",
    )
    for line in lines
  ]
  place(
    offsetbox.HPacker(children=entries, align="baseline", pad=0, sep=10),
    "upper left",
    0.29,
  )


def _png(figure) -> bytes:
  file = io.BytesIO()
  figure.savefig(file, format="png", metadata={"Software": None})
  figure.clear()
  return file.getvalue()
