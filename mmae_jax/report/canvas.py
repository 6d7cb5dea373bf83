"""What all figures of the report share: axes, heading, colours of time.

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
  compact,
  readable,
)

_DPI = 180


class Line(NamedTuple):
  """One curve: label, steps [n], values [n] (NaN is a gap), colour."""

  label: str
  steps: np.ndarray
  values: np.ndarray
  colour: str


def canvas(*, wide: bool = False, rows: int = 1, bar: bool = False):
  """A figure and its axes; rows: of the heading; bar: room for `time_bar`."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  width, height = (8.6 if wide else 4.2), 2.75
  figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
  FigureCanvasAgg(figure)
  left, bottom, top = 0.56, 0.46, (0.36 if rows == 1 else 0.6)
  right = 0.72 if bar else 0.12
  axes = figure.add_axes(
    (
      left / width,
      bottom / height,
      1 - (left + right) / width,
      1 - (bottom + top) / height,
    )
  )
  return figure, axes


def style(axes, *, unit: str = "", log: bool = False):
  """Spines, grid and ticks as everywhere on the page."""
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


def heading(figure, title: str, lines: Sequence[Line], unit: str | None):
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


def time_colours(steps: Sequence[int]):
  """Colours of steps, from light to dark.

  Args:
    steps: ascending.
  Returns:
    A ScalarMappable: `to_rgba(step)`, and what `time_bar` draws.
  """
  from matplotlib import cm, colormaps, colors

  shades = colormaps["viridis_r"](np.linspace(0.06, 1, 256))
  last = max(steps[-1], steps[0] + 1)
  return cm.ScalarMappable(
    colors.Normalize(steps[0], last), colors.ListedColormap(shades)
  )


def time_bar(figure, axes, colours) -> None:
  """The scale of `time_colours` at the right of the axes."""
  from matplotlib import ticker

  box = axes.get_position()
  bar = figure.colorbar(
    colours, cax=figure.add_axes((box.x1 + 0.025, box.y0, 0.02, box.height))
  )
  bar.outline.set_visible(False)
  bar.ax.tick_params(length=0, labelsize=8, labelcolor=MUTED, pad=3)
  last = bar.mappable.norm.vmax
  bar.ax.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
  bar.ax.yaxis.set_major_formatter(
    ticker.FuncFormatter(lambda step, _: compact(step, largest=last))
  )
  bar.ax.set_title("step", fontsize=8, color=MUTED, pad=4)


def png(figure) -> bytes:
  """The PNG of a figure, which is of no use afterwards."""
  file = io.BytesIO()
  figure.savefig(file, format="png", metadata={"Software": None})
  figure.clear()
  return file.getvalue()
