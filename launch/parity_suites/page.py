"""The JSON, the page and the printed summary of launch/parity.py."""

import base64
import collections
import dataclasses
import json
import math
import os
import pathlib
import platform

import numpy as np

from parity_suites.rows import FAILED, PASSED, SKIPPED, package

_PACKAGES = (
  *("jax", "flax", "optax", "numpy", "torch", "transformers", "timm"),
  *("torchvision", "PIL", "sklearn"),
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>mmae_jax: parity</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1b2430; margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p, figcaption { color: #4c5766; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; vertical-align: top;
  border-bottom: 1px solid #e6e9ee; }
td.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
td.note { color: #4c5766; }
.passed { color: #2c8a4b; } .FAILED { color: #c23b3b; font-weight: 700; }
.skipped { color: #697586; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
</style>
<h1>Equality with PyTorch</h1>
<p>{{ headline }}</p>
<p>{{ machine }}</p>
<p>An error is the largest difference divided by the largest number of the
other program's, unless the row says otherwise. Of gradients, parameters and
statistics it is that of the worst tensor: the norm of the difference over the
tensor's own plus a thousandth of that of all (where a gradient may vanish in
theory, at collapse, of at least a hundredth of the usual one).</p>
{% for suite, rows in suites.items() %}
<h2 id="{{ suite }}">{{ suite }}</h2>
{% for name, image in figures[suite] %}
<figure><img alt="{{ name }}" src="data:image/png;base64,{{ image }}">
<figcaption>{{ name }}</figcaption></figure>
{% endfor %}
<div class="scroll"><table>
<tr><th>what</th><th>with what</th><th>precision</th><th>tolerance</th>
<th>error</th><th>verdict</th><th>largest at</th><th>first above</th>
<th></th></tr>
{% for row in rows %}
<tr><td>{{ row.what }}</td><td>{{ row.other }}</td><td>{{ row.precision }}</td>
<td class="number">{{ row.tolerance | number }}</td>
<td class="number">{{ row.error | number }}</td>
<td class="{{ row.verdict }}">{{ row.verdict }}</td><td>{{ row.where }}</td>
<td>{{ row["first"] if row["first"] else ("none" if row["first"] == "" else "")
}}</td><td class="note">{{ row.note }}</td></tr>
{% endfor %}
</table></div>
{% endfor %}
</html>
"""


def result(rows, seconds) -> dict:
  """What parity.json holds.

  Args:
    rows: of all suites.
    seconds: CPU time by suite.
  Returns:
    {"rows", "counts", "seconds", "machine", "versions"}; in the file NaN is
    null and an infinity is text.
  """
  counts = collections.Counter(row.verdict for row in rows)
  versions = {}
  for name in _PACKAGES:
    module, said = package(name)
    versions[name] = said.partition(" ")[2] if module else said
  return {
    "counts": {v: counts[v] for v in (PASSED, FAILED, SKIPPED)},
    "machine": f"{cores()} CPU cores, {platform.machine()},"
    f" Python {platform.python_version()}",
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
    "versions": versions,
    "seconds": seconds,
    "rows": [dataclasses.asdict(row) for row in rows],
  }


def cores() -> int:
  """CPU cores that this process may use."""
  try:
    return len(os.sched_getaffinity(0))
  except AttributeError:  # not on every system
    return os.cpu_count()


def write(result: dict, out: pathlib.Path, pictures=None) -> None:
  """Writes parity.json and parity.html.

  Args:
    result: of `result`.
    out: a folder that is there.
    pictures: {suite: {caption: PNG bytes}} besides the curves of the rows.
  """
  import jinja2

  replace(out / "parity.json", json.dumps(_plain(result), indent=1))
  suites = {}
  for row in result["rows"]:
    suites.setdefault(row["suite"], []).append(row)
  environment = jinja2.Environment(autoescape=True, trim_blocks=True)
  environment.filters["number"] = number
  page = environment.from_string(_PAGE).render(
    headline=_headline(result),
    machine=_machine(result),
    suites=suites,
    figures={
      name: [
        *_figures(rows),
        *((n, _base64(x)) for n, x in (pictures or {}).get(name, {}).items()),
      ]
      for name, rows in suites.items()
    },
  )
  replace(out / "parity.html", page)


def replace(path: pathlib.Path, text: str) -> None:
  """Writes a file; a killed program leaves no half of it."""
  draft = path.with_suffix(".draft")
  draft.write_text(text)
  os.replace(draft, path)


def _plain(x):
  """JSON has no NaN and no infinity: text in their place."""
  if isinstance(x, dict):
    return {key: _plain(value) for key, value in x.items()}
  if isinstance(x, list | tuple):
    return [_plain(value) for value in x]
  if isinstance(x, float) and not math.isfinite(x):
    return None if math.isnan(x) else str(x)
  return x


def number(x: float) -> str:
  """An error or a tolerance, in two digits."""
  if math.isnan(x):
    return ""
  return f"{x:.1e}" if x else "0"


def _headline(result):
  counts = result["counts"]
  return (
    f"{counts[PASSED]} rows passed, {counts[FAILED]} failed,"
    f" {counts[SKIPPED]} were skipped; {sum(result['seconds'].values()):.0f}"
    " CPU seconds."
  )


def _machine(result):
  versions = ", ".join(
    f"{name} {version}"
    for name, version in result["versions"].items()
    if not version.startswith("import ")
  )
  flags = result["xla_flags"]
  flags = f" XLA_FLAGS={flags}" if flags else ""
  return f"{result['machine']}; {versions}.{flags}"


# --- figures


def _figures(rows):
  """[(name, PNG in base64)]: errors by layer, errors by step."""
  found = []
  for name, by_layer in (("layer", True), ("step", False)):
    chosen = [
      row
      for row in rows
      if len(row["curve"]) > 1 and (row["first"] is not None) == by_layer
    ]
    for precision in ("float64", "float32"):
      some = [row for row in chosen if row["precision"] == precision]
      if some:
        title = f"Errors by {name}, {precision}"
        found.append((title, _base64(_curves(title, name, some))))
  return found


def _base64(image):
  return base64.b64encode(image).decode()


def _curves(title, x_label, rows):
  from mmae_jax.report import canvas, quantities

  colours = (
    *(quantities.BLUE, quantities.ORANGE, quantities.TEAL, quantities.ROSE),
    *(quantities.PURPLE, quantities.SLATE, quantities.GREEN, quantities.RED),
  )
  figure, axes = canvas.canvas(wide=True)
  for i, row in enumerate(rows):
    y = np.asarray(row["curve"], np.float64)
    if x_label == "step":
      y = np.maximum.accumulate(y)
    # Equal bits have no place on a log scale.
    y = np.maximum(y, np.finfo(row["precision"]).eps / 4)
    colour = colours[i % len(colours)]
    label = f"{row['what'].partition(':')[0]} ({row['other'].split()[0]})"
    x = np.arange(1, len(y) + 1) / (len(y) if x_label == "layer" else 1)
    axes.plot(x, y, color=colour, linewidth=1.3, label=label)
  tolerances = {row["tolerance"] for row in rows}
  for tolerance in tolerances:
    axes.axhline(
      tolerance, color=quantities.MUTED, linewidth=0.9, linestyle="--"
    )
  canvas.style(axes, log=True)
  if x_label == "layer":
    axes.set_xticks([])
    axes.set_xlabel(
      "from the first to the last layer (dashed: tolerance)",
      fontsize=8,
      color=quantities.MUTED,
    )
  else:
    axes.set_xlabel(
      "step (largest so far; dashed: tolerance)",
      fontsize=8,
      color=quantities.MUTED,
    )
  axes.legend(
    fontsize=7,
    frameon=False,
    ncols=3,
    loc="upper left",
    bbox_to_anchor=(0, 0.93),
  )
  canvas.heading(figure, f"{title}, log scale", [], "")
  return canvas.png(figure)


# --- what is printed


def show(result: dict) -> None:
  """Prints the summary, a Markdown table: a line for each kind of row."""
  for line in summary(result):
    print(line)


def summary(result: dict) -> list[str]:
  """The printed lines: rows of one subject and one program in one."""
  groups = collections.defaultdict(list)
  for row in result["rows"]:
    subject = row["what"].partition(":")[0]
    program = row["other"].partition(",")[0]
    groups[row["suite"], subject, program].append(row)
  lines = [
    "| suite | what | with what | rows | float64: error (tolerance)"
    " | float32 or uint8 | verdict |",
    "|---|---|---|---:|---:|---:|---|",
  ]
  for (suite, subject, program), rows in groups.items():
    wide = [row for row in rows if row["precision"] == "float64"]
    narrow = [row for row in rows if row["precision"] != "float64"]
    lines.append(
      f"| {suite} | {subject} | {program} | {len(rows)} | {_worst(wide)} |"
      f" {_worst(narrow)} | {_verdict(rows)} |"
    )
  return [*lines, "", _headline(result), _machine(result)]


def _worst(rows):
  """Of the row that is nearest to its tolerance."""
  rows = [row for row in rows if row["verdict"] != SKIPPED]
  if not rows:
    return ""
  worst = max(rows, key=_nearness)
  return f"{number(worst['error'])} ({number(worst['tolerance'])})"


def _verdict(rows):
  told = []
  for row in rows:
    if row["verdict"] == FAILED:
      where = f", {row['where']}" if row["where"] else ""
      told.append(f"{FAILED}: {row['what']} ({row['precision']}{where})")
    elif row["verdict"] == SKIPPED:
      told.append(f"{SKIPPED}: {row['note']}")
  return "; ".join(told) or PASSED


def _nearness(row):
  if not row["tolerance"]:
    return math.inf if row["error"] else 0.0
  return row["error"] / row["tolerance"]
