"""The figures of a sweep: quantities of its methods over time."""

from collections.abc import Iterable, Mapping, Sequence
import csv
import io
import math
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np

from mmae_jax.report import canvas
from mmae_jax.report.comparison import Row
from mmae_jax.report.quantities import (
  BLUE,
  GREEN,
  INK,
  MUTED,
  ORANGE,
  PURPLE,
  RED,
  ROSE,
  SLATE,
  TEAL,
  method_name,
)
from mmae_jax.report.run import read_run

PANELS = {
  "sample_mutual_information_1": "Mutual information, order 1 (nats)",
  "sample_mutual_information_2": "Mutual information, order 2 (nats)",
  "sample_joint_entropy_1": "Joint entropy, order 1 (nats)",
  "sample_joint_entropy_2": "Joint entropy, order 2 (nats)",
  "feature_mutual_information_2": "Feature side: I, order 2 (nats)",
  "effective_rank_a": "Effective rank of branch a",
  "er_bound": "ER bound (nats)",
}
# What is not measured with the plane.
_KINDS = {"knn_accuracy": "eval", "probe_accuracy": "train"}
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, TEAL, ROSE, SLATE)
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_COLUMNS = 4
_METHODS = 9  # in a column of the legend
_WIDTH, _HEIGHT = 3.1, 2.5
_DPI = 120


class Point(NamedTuple):
  """One number of a figure, a line of its .csv; value is finite."""

  method: str
  seed: int
  step: int
  epoch: float
  quantity: str
  value: float


class Curve(NamedTuple):
  """A method's mean over its seeds, and the extremes; arrays [points]."""

  epochs: np.ndarray
  mean: np.ndarray
  least: np.ndarray
  largest: np.ndarray


def write_planes(out: Path, rows: Sequence[Row]) -> Path | None:
  """Draws planes.png and writes its numbers to planes.csv.

  Args:
    out: the folder they are written to.
    rows: the runs; those that are not finished do not count.
  Returns:
    The path of the figure; None where no run measured the plane, and then
    nothing is written.
  """
  return write_figure(
    out,
    rows,
    name="planes",
    panels=PANELS,
    note="Sample side unless said. Line: mean of\nthe seeds;"
    " band: least to largest.",
  )


def write_figure(
  out: Path,
  rows: Sequence[Row],
  *,
  name: str,
  panels: Mapping[str, str],
  note: str,
  references: Mapping[str, str] | None = None,
) -> Path | None:
  """Draws quantities over epochs, a panel each, and writes their numbers.

  Args:
    out: the folder that gets `name`.png and `name`.csv.
    rows: the runs; those that are not finished do not count.
    name: of the files.
    panels: {quantity: title}.
    note: stands above the legend.
    references: {quantity: another one, which it is held against}: a dotted
      line.
  Returns:
    The path of the figure; None where no run has any of the quantities, and
    then nothing is written.
  """
  references = references or {}
  wanted = [*panels, *dict.fromkeys(references.values())]
  points = [point for row in rows for point in _points(row, wanted)]
  if not any(point.quantity in panels for point in points):
    return None
  with open(out / f"{name}.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(Point._fields)
    writer.writerows(points)
  path = out / f"{name}.png"
  path.write_bytes(_draw(points, panels, note, references))
  return path


def curve(points: Iterable[Point]) -> Curve:
  """Joins the seeds of one method and quantity.

  Args:
    points: of all of its seeds.
  Returns:
    The Curve over the steps that all seeds have: a mean over some of them
    would jump where one is missing.
  """
  seeds: dict[int, dict[int, Point]] = {}
  for point in points:
    seeds.setdefault(point.seed, {})[point.step] = point
  first, *others = seeds.values()
  steps = sorted(set(first).intersection(*others))
  values = np.array([[s[step].value for step in steps] for s in seeds.values()])
  return Curve(
    np.array([first[step].epoch for step in steps]),
    values.mean(axis=0),
    values.min(axis=0),
    values.max(axis=0),
  )


def labels(methods: Sequence[str]) -> dict[str, str]:
  """What the legend says: `mmae-fashion_mnist-weight=1` is M-MAE, weight=1.

  Args:
    methods: names of rows.
  Returns:
    {name: label}; a config's argument that all of them share is left out.
  """
  parts = [method.partition("-")[::2] for method in methods]
  shared = {rest.partition("-")[0] for _, rest in parts}
  common = shared.pop() if len(shared) == 1 else ""
  if "=" in common:  # a value of the config's own, and perhaps cut in two
    common = ""
  said = {}
  for method, (stem, rest) in zip(methods, parts, strict=True):
    rest = rest.removeprefix(common).removeprefix("-")
    rest = re.sub(r"-(?=\w+=)", " ", rest)  # but not the minus of 1e-5
    said[method] = ", ".join(filter(None, [method_name(stem), rest]))
  return said


# ------------------------------------------------------------------- parts


def _points(row: Row, names: Sequence[str]) -> Iterable[Point]:
  """The finite numbers of a finished run."""
  if row.state != "finished":
    return
  run = read_run(row.workdir, config={})
  for name in names:
    kind = _KINDS.get(name, "plane")
    epochs = {point["step"]: point.get("epoch") for point in run.of(kind)}
    series = run.series(kind, name)
    for step, value in zip(series.steps, series.values, strict=True):
      epoch = epochs[step]
      if epoch is not None and math.isfinite(value):
        yield Point(row.method, row.seed, int(step), epoch, name, float(value))


def _draw(
  points: Sequence[Point],
  panels: Mapping[str, str],
  note: str,
  references: Mapping[str, str],
) -> bytes:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  methods = list(dict.fromkeys(point.method for point in points))
  shown = [n for n in panels if any(p.quantity == n for p in points)]
  # The last places, side by side, are the legend's.
  places = min(-(-len(methods) // _METHODS), _COLUMNS)
  columns = min(len(shown) + places, _COLUMNS)
  legend_at = len(shown)
  if legend_at % columns + places > columns:
    legend_at = -(-legend_at // columns) * columns
  lines = -(-(legend_at + places) // columns)
  figure = Figure(
    figsize=(_WIDTH * columns, _HEIGHT * lines), dpi=_DPI, facecolor="white"
  )
  FigureCanvasAgg(figure)
  grid = figure.subplots(lines, columns, squeeze=False).ravel()
  for axes, name in zip(grid, shown, strict=False):
    for number, method in enumerate(methods):
      own = [point for point in points if point.method == method]
      some = [point for point in own if point.quantity == name]
      if some:
        _line(axes, curve(some), **_look(number))
      levels = {p.value for p in own if p.quantity == references.get(name)}
      if some and levels:
        colour = _look(number)["color"]
        axes.axhline(max(levels), color=colour, linestyle=":", linewidth=0.9)
    canvas.style(axes)
    axes.set_title(
      panels[name], loc="left", fontsize=9, fontweight="bold", color=INK
    )
    axes.set_xlabel("epoch", fontsize=8, color=MUTED, labelpad=2)
  for axes in grid[len(shown) :]:
    axes.set_axis_off()
  _legend(grid[legend_at], labels(methods), note, columns=places)
  figure.tight_layout(pad=0.8, h_pad=1.4, w_pad=1.2)
  return _in_few_colours(canvas.png(figure))


def _in_few_colours(png: bytes) -> bytes:
  """The picture with a palette, which takes a third of the space."""
  from PIL import Image

  file = io.BytesIO()
  picture = Image.open(io.BytesIO(png)).convert("RGB")
  picture = picture.quantize(256, dither=Image.Dither.NONE)
  picture.save(file, format="PNG", optimize=True)
  return file.getvalue()


def _look(number: int) -> dict:
  """Colour and dashes of the method with this number, in all panels."""
  dashes = _DASHES[number // len(_COLOURS) % len(_DASHES)]
  return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": dashes}


def _line(axes, line: Curve, **look):
  axes.fill_between(
    line.epochs,
    line.least,
    line.largest,
    color=look["color"],
    alpha=0.18,
    linewidth=0,
  )
  axes.plot(
    line.epochs,
    line.mean,
    linewidth=1.5,
    marker="o" if len(line.epochs) <= 12 else None,
    markersize=2.8,
    **look,
  )


def _legend(axes, names: dict[str, str], note: str, *, columns: int):
  from matplotlib.lines import Line2D

  handles = [
    Line2D([], [], label=name, linewidth=1.8, **_look(number))
    for number, name in enumerate(names.values())
  ]
  legend = axes.legend(
    handles=handles,
    ncols=columns,
    loc="upper left",
    bbox_to_anchor=(-0.08, 1.06),
    borderaxespad=0,
    frameon=False,
    fontsize=8,
    labelcolor=INK,
    title=note,
    title_fontsize=8,
    alignment="left",
  )
  legend.set_in_layout(False)  # it has the places beside its own
