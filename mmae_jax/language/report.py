"""The page of a run: losses side by side, accuracies, and what was written."""

from collections.abc import Iterator, Sequence
import datetime
import itertools
import json

from etils import epath
from markupsafe import Markup
import numpy as np

from mmae_jax.config import flatten
from mmae_jax.language import results
from mmae_jax.language.datasets import Problems
from mmae_jax.language.results import Result
from mmae_jax.report import page, plots
from mmae_jax.report.facts import Headline, Tile
from mmae_jax.report.quantities import (
  BLUE,
  GREEN,
  ORANGE,
  PURPLE,
  ROSE,
  TEAL,
)
from mmae_jax.report.section import Section, figure, lead, panels, table
from mmae_jax.train.console import duration
from mmae_jax.train.metrics import read_metrics

_COLOURS = (BLUE, ORANGE, TEAL, PURPLE, ROSE, GREEN)
_CURVES = (
  ("ce", "Cross-entropy", "nats"),
  ("mce", "Matrix cross-entropy", "nats"),
  ("grad_norm", "Gradient norm", ""),
  ("learning_rate", "Learning rate", ""),
)
_SHOWN = 8


def write(
  folder,
  config,
  found: Sequence[Result],
  problems: Problems,
  *,
  command: str,
):
  """Draws report.html from the files of a run's folder.

  Args:
    folder: the run's.
    config: the run's.
    found: all cells.
    problems: both splits.
    command: what was typed.
  Returns:
    The path of the page; the PNGs are in folder/figures.
  """
  sections = [
    _accuracy(found),
    _curves(found),
    _answers(found),
    _configuration(config, command),
  ]
  head = _headline(folder, config, found, problems)
  return page.write_page(epath.Path(folder), head, sections)


def _headline(folder, config, found, problems) -> Headline:
  tiles = [
    Tile(f"{results.title(r.weight)}, seed {r.seed}", *_accuracy_text(r))
    for r in found
    if "accuracy" in r.values
  ]
  tiles.append(Tile("Training examples", f"{len(problems.train):,}"))
  tiles.append(Tile("Wall time", duration(sum(sum(r.seconds) for r in found))))
  now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
  return Headline(
    method="Matrix cross-entropy",
    dataset=config.data.train or "generated arithmetic",
    status="finished",
    tone="good",
    summary=f"{folder} · {now}",
    tiles=tiles,
  )


def _accuracy_text(result: Result) -> tuple[str, str]:
  low, high = result.values["interval"]
  return (
    f"{100 * result.values['accuracy']:.1f} %",
    f"{result.values['right']} of {result.values['asked']};"
    f" {100 * low:.1f} to {100 * high:.1f}",
  )


def _accuracy(found) -> Section:
  header, rows = results.table(found)
  text = lead(
    "Exact match of greedy answers; mean ± sample standard deviation over the"
    " seeds. The interval is Wilson's at 95 %, of the questions as a sample: it"
    " says nothing about other seeds. {}",
    " ".join(results.comparisons(found)),
  )
  return Section("Accuracy", text + table(header, rows, kind="numbers"))


def _curves(found) -> Section:
  title = "Training"
  records = {
    result.folder: [
      r for r in read_metrics(result.folder) if r["kind"] == "train"
    ]
    for result in found
  }
  figures = {}
  for key, label, unit in _CURVES:
    lines = list(_lines(found, records, key))
    if lines:
      figures[key] = plots.curves(label, lines, unit=unit)
  if not figures:
    return Section(title, note="no step was recorded")
  text = lead(
    "Means over the steps of a log interval, on response tokens, and over the"
    " seeds."
  )
  parts = [figure(png, alt=key) for key, png in figures.items()]
  return Section(title, text + panels(parts), figures)


def _lines(found, records, key) -> Iterator[plots.Line]:
  """One curve a weight: the mean of its seeds where all of them have one."""
  weights = dict.fromkeys(r.weight for r in found)
  for weight, colour in zip(weights, itertools.cycle(_COLOURS)):
    curves = [
      {row["step"]: row[key] for row in records[r.folder] if key in row}
      for r in found
      if r.weight == weight
    ]
    steps = sorted(set.intersection(*map(set, curves)))
    if steps:
      values = [[curve[step] for step in steps] for curve in curves]
      yield plots.Line(
        results.title(weight),
        np.array(steps),
        np.mean(np.array(values, np.float64), axis=0),
        colour,
      )


def _answers(found) -> Section:
  title = "Answers"
  seed = found[0].seed
  columns = []
  for result in found:
    path = epath.Path(result.folder) / "generations.jsonl"
    if result.seed == seed and path.exists():
      lines = path.read_text().splitlines()[:_SHOWN]
      columns.append((result, [json.loads(line) for line in lines]))
  if not columns:
    return Section(title, note="nothing was asked")
  header = ["Question", "Reference"]
  header += [results.title(result.weight) for result, _ in columns]
  rows = [
    [
      answers[0]["query"],
      answers[0]["reference"],
      *(f"{'✓' if a['right'] else '✗'} {a['generated']}" for a in answers),
    ]
    for answers in zip(*(rows for _, rows in columns), strict=True)
  ]
  text = lead(
    "The first questions, seed {}; all are in generations.jsonl.", seed
  )
  return Section(title, text + table(header, rows))


def _configuration(config, command: str) -> Section:
  rows = [
    (f"--config.{key}", json.dumps(value, default=str))
    for key, value in flatten(config).items()
  ]
  html = Markup(
    "<details><summary>{} settings, as flags</summary>{}</details>"
  ).format(len(rows), table((), rows, kind="config"))
  return Section("Configuration", lead("{}", command) + html)
