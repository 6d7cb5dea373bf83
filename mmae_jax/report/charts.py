"""Sections made of curves: losses, accuracies, the feature, speed."""

from collections.abc import Sequence

import numpy as np

from mmae_jax.report import plots
from mmae_jax.report.quantities import (
  QUANTITIES,
  quantity,
  readable,
  scaled,
)
from mmae_jax.report.run import Run
from mmae_jax.report.section import Section, figure, lead, panels, table

_OPTIMISATION = (
  "learning_rate",
  "grad_norm",
  "effective_weight",
  "momentum",
  "lambda_inverse",
)
_SPEED = ("images_per_second", "data_wait")
_FEATURE = ("effective_rank", "matrix_entropy")
_TABLE_ROWS = 6


def losses(run: Run) -> Section:
  """The loss, its parts, and whatever else the objective records."""
  claimed = (*_OPTIMISATION, *_SPEED)
  names = [
    name
    for name in run.names("train")
    if name not in claimed and not name.endswith("accuracy")
  ]
  known = list(QUANTITIES)  # in the order in which they are read
  names.sort(key=lambda n: known.index(n) if n in known else len(known))
  return _charts(
    run, "Losses and their parts", "train", names, "no losses were recorded"
  )


def optimisation(run: Run) -> Section:
  """Learning rate, gradient norm, and what else follows a schedule."""
  names = [name for name in _OPTIMISATION if name in run.names("train")]
  return _charts(
    run, "Optimisation", "train", names, "no learning rate was recorded"
  )


def accuracies(run: Run) -> Section:
  """Accuracies of the frozen feature, of the online probe, and their table."""
  title = "Accuracy"
  charts = (("eval", "Test accuracy"), ("train", "Training accuracy"))
  figures, parts = {}, []
  for kind, heading in charts:
    names = [n for n in run.names(kind) if n.endswith("accuracy")]
    if not names:
      continue
    lines = [_line(run, kind, name) for name in names]
    if len(lines) == 1:
      heading = f"{heading}: {lines[0].label}"
    png = plots.curves(heading, lines, unit="%", marks=run.restarts())
    figures[f"{kind}_accuracy"] = png
    parts.append(figure(png, alt=heading))
    if kind == "eval":
      parts.append(_evaluation_table(run, names))
  if not figures:
    return Section(title, note="no accuracies, since there are no labels")
  text = lead(
    "k-NN and linear: the frozen feature on the test split. "
    "Online probe: on training batches, while the encoder still moves."
  )
  return Section(title, text + panels(parts), figures)


def feature(run: Run) -> Section:
  """Effective rank, matrix entropy and spectrum of the feature."""
  title = "The feature"
  names = [name for name in run.names("eval") if not name.endswith("accuracy")]
  names.sort(key=lambda name: name not in _FEATURE)
  figures = _draw(run, "eval", names)
  spectrums = [
    (step, np.asarray(arrays["eigenvalues"], np.float64))
    for step, arrays in run.artifacts("spectrum")
  ]
  if spectrums:
    figures = {**figures, "spectrum": plots.spectra(spectrums)}
  if not figures:
    return Section(title, note="its rank and spectrum were not recorded")
  text = "Entropy of the eigenvalues of the training features' second moment"
  if spectrums:
    dim = len(spectrums[-1][1])
    text += f" ({dim} dimensions: at most {np.log(dim):.3g} nats)"
  text += "; effective rank is its exponential, the directions in use."
  parts = [figure(png, alt=name) for name, png in figures.items()]
  return Section(title, lead("{}", text) + panels(parts), figures)


def speed(run: Run) -> Section:
  """Images a second, the share of time spent waiting for data, the cost."""
  title = "Speed"
  names = [name for name in _SPEED if name in run.names("train")]
  if not names:
    return Section(title, note="no speed was recorded")
  figures = _draw(run, "train", names)
  parts = [figure(png, alt=name) for name, png in figures.items()]
  facts = _cost(run)
  if facts:
    parts.append(table((), facts, kind="facts"))
  return Section(title, panels(parts), figures)


def typical_speed(run: Run) -> float | None:
  """Median images/s of the second half: without compiling and warming up."""
  values = run.series("train", "images_per_second").values
  values = values[np.isfinite(values)]
  return float(np.median(values[len(values) // 2 :])) if len(values) else None


# ------------------------------------------------------------------- parts


def _objective(run: Run) -> str:
  return str(run.get("objective", "name", default=""))


def _line(run: Run, kind: str, name: str) -> plots.Line:
  what = quantity(name, objective=_objective(run))
  series = run.series(kind, name)
  return plots.Line(what.label, series.steps, series.values, what.colour)


def _draw(run: Run, kind: str, names: Sequence[str]) -> dict[str, bytes]:
  figures = {}
  for name in names:
    what = quantity(name, objective=_objective(run))
    figures[name.replace("/", "-")] = plots.curves(
      what.label,
      [_line(run, kind, name)],
      unit=what.unit,
      marks=run.restarts(),
    )
  return figures


def _charts(
  run: Run, title: str, kind: str, names: Sequence[str], note: str
) -> Section:
  if not names:
    return Section(title, note=note)
  values = {name: run.series(kind, name).values for name in names}
  fixed = [
    name for name in names if len(values[name]) > 1 and _constant(values[name])
  ]
  moving = [name for name in names if name not in fixed]
  figures = _draw(run, kind, moving)
  known = {name: quantity(name, objective=_objective(run)) for name in names}
  html = panels(
    figure(png, alt=known[name].label, caption=known[name].note)
    for name, png in zip(moving, figures.values(), strict=True)
  )
  if fixed:
    said = ", ".join(
      f"{known[name].label} {readable(values[name][0], known[name].unit)}"
      for name in fixed
    )
    html = lead("The same at all steps: {}.", said) + html
  broken = [
    f"{known[name].label} {missing:,}"
    for name in names
    if (missing := int(np.isnan(values[name]).sum()))
  ]
  if broken:
    said = ", ".join(broken)
    html = lead('<b class="bad">Values not finite</b>: {}.', said) + html
  return Section(title, html, figures)


def _constant(values: np.ndarray) -> bool:
  return bool(np.all(values == values[0]))


def _evaluation_table(run: Run, names: Sequence[str]) -> str:
  records = run.of("eval")
  if len(records) > _TABLE_ROWS:
    rows = np.linspace(0, len(records) - 1, _TABLE_ROWS).round().astype(int)
    records = [records[i] for i in rows]
  cells = [
    [f"{record['step']:,}"]
    + [readable(record[name], "%") if name in record else "" for name in names]
    for record in records
  ]
  labels = [quantity(name).label for name in names]
  return table(["Step", *labels], cells, kind="numbers")


def _cost(run: Run) -> list[tuple[str, str]]:
  header = run.header()
  facts = []
  if header.get("devices"):
    facts.append(("Devices", str(header["devices"])))
  if header.get("parameters"):
    facts.append(("Parameters", f"{header['parameters']:,}"))
  flops, rate = header.get("flops_per_step"), typical_speed(run)
  if flops:
    facts.append(("Work per step", scaled(flops, "FLOP")))
    batch = run.get("batch_size")
    if rate and batch:
      facts.append(("Work per second", scaled(flops * rate / batch, "FLOP/s")))
  if header.get("memory_bytes"):
    memory = scaled(header["memory_bytes"], "B", base=1024)
    facts.append(("Memory of a step", memory))
  return facts
