"""Figures of the report: PNG bytes out of arrays."""

from collections.abc import Sequence

import numpy as np

from mmae_jax.report.canvas import (
  Line,
  canvas,
  heading,
  png,
  style,
  time_bar,
  time_colours,
)
from mmae_jax.report.quantities import FIRST, MUTED, ROSE

MAX_POINTS = 600
_BINS = 400


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
  figure, axes = canvas(wide=wide, rows=1 if len(lines) < 2 else 2)
  for line in lines:
    _draw(axes, line)
  finite = np.concatenate([line.values for line in lines])
  finite = finite[np.isfinite(finite)]
  log = len(finite) > 0 and finite.min() > 0
  log = log and unit != "%" and finite.max() > 30 * np.median(finite)
  style(axes, unit=unit, log=log)
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
  heading(figure, shown + (", log scale" if log else ""), lines, unit)
  return png(figure)


def spectra(spectrums: Sequence[tuple[int, np.ndarray]]) -> bytes:
  """Eigenvalues in descending order, first against last, on a log scale.

  Args:
    spectrums: (step, eigenvalues [dim] of unit trace), oldest first.
  Returns:
    PNG bytes.
  """
  figure, axes = canvas(wide=False, rows=2)
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
  _spectrum_axes(axes, [line.values for line in lines])
  heading(figure, "Eigenvalues, log scale", lines, None)
  return png(figure)


def trajectory(
  title: str,
  steps: np.ndarray,
  x: np.ndarray,
  y: np.ndarray,
  *,
  labels: tuple[str, str],
) -> bytes:
  """One quantity against another, time as colour.

  Args:
    title: stands at the upper left.
    steps, x, y: [n]; points with a NaN are left out.
    labels: of the two axes.
  Returns:
    PNG bytes. The dotted line is y = x.
  """
  from matplotlib import ticker

  seen = np.isfinite(x) & np.isfinite(y)
  steps, x, y = steps[seen], x[seen], y[seen]
  figure, axes = canvas(bar=True)
  colours = time_colours(steps if len(steps) else [0])
  axes.plot(x, y, color=FIRST, linewidth=1.0, zorder=2)
  axes.scatter(
    x, y, c=colours.to_rgba(steps), s=26, zorder=3, edgecolor="white", lw=0.5
  )
  limits = axes.get_xlim(), axes.get_ylim()
  axes.axline((0, 0), slope=1, color=MUTED, lw=0.8, linestyle=(0, (1, 2)))
  axes.set(xlim=limits[0], ylim=limits[1])
  style(axes)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
  axes.xaxis.set_major_formatter(ticker.FuncFormatter("{:.4g}".format))
  axes.set_xlabel(labels[0], fontsize=8, color=MUTED, labelpad=2)
  axes.set_ylabel(labels[1], fontsize=8, color=MUTED, labelpad=2)
  time_bar(figure, axes, colours)
  heading(figure, title, [], "")
  return png(figure)


def spectra_over_time(
  title: str, spectrums: Sequence[tuple[int, np.ndarray]]
) -> bytes:
  """Eigenvalues in descending order on a log scale, time as colour.

  Args:
    title: stands at the upper left.
    spectrums: (step, eigenvalues [dim] of unit trace), oldest first.
  Returns:
    PNG bytes.
  """
  figure, axes = canvas(bar=True)
  colours = time_colours([step for step, _ in spectrums])
  for step, values in spectrums:
    axes.plot(
      np.arange(1, len(values) + 1),
      np.where(values > 0, values, np.nan),
      color=colours.to_rgba(step),
      linewidth=1.2,
    )
  _spectrum_axes(axes, [values for _, values in spectrums])
  time_bar(figure, axes, colours)
  heading(figure, title + ", log scale", [], "")
  return png(figure)


# ------------------------------------------------------------------- parts


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


def _spectrum_axes(axes, spectrums: Sequence[np.ndarray]):
  dim = max(len(values) for values in spectrums)
  top = max(values.max(initial=0.0) for values in spectrums) or 1.0
  low = min(values[values > 0].min(initial=top) for values in spectrums)
  style(axes, log=True)
  # Below 1e-7 of the largest a float32 spectrum is rounding, not structure.
  axes.set_ylim(max(0.5 * low, 1e-7 * top), 2.0 * top)
  axes.set_xlim(0.5, dim + 0.5)
  axes.axhline(1 / dim, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
  axes.set_xlabel("index (dotted: all equal)", fontsize=8, color=MUTED)
