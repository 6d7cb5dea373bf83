"""What the suite `information` prints and writes: tables, targets, a plot."""

import csv
import io
import pathlib

from bench_targets import OURS, targets
from rich.console import Console
from rich.table import Table

_ACCURATE = 1e-3  # relative; what may win
_VERDICTS = {True: "reached", False: "NOT REACHED", None: ""}


def show(result: dict) -> None:
  """Prints what `bench_information.measure` returned."""
  console = Console(width=140)
  for line in _headline(result):
    console.print(line)
  for title, header, rows in _tables(result):
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(header):
      table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
      table.add_row(*row)
    console.print(table)
  for line in _notes(result):
    console.print(line)


def write_beside(result: dict, out: pathlib.Path) -> None:
  """Writes the tables as .md, the entries as .csv, the growth as .png.

  Args:
    result: of `bench_information.measure`.
    out: the path of the JSON file; the others have its name.
  """
  lines = []
  for line in _headline(result):
    lines += [line, ""]
  for title, header, rows in _tables(result):
    lines += [f"**{title}**", "", _markdown(header)]
    lines += [_markdown(["---"] + ["---:"] * (len(header) - 1))]
    lines += [*map(_markdown, rows), ""]
  lines += [f"- {line}" for line in _notes(result)]
  out.with_suffix(".md").write_text("\n".join(lines) + "\n")
  out.with_suffix(".csv").write_text(_csv(result["entries"]))
  import bench_growth

  out.with_suffix(".png").write_bytes(bench_growth.plot(result))


def _markdown(cells):
  return "| " + " | ".join(cells) + " |"


def _csv(entries):
  fields = [
    "quantity",
    "form",
    "gradient",
    "batch",
    "dim",
    "seconds",
    "rounds",
    "extrapolated",
    "ratio",
    "ratio_min",
    "ratio_max",
    "share_of_step",
    "temporary_bytes",
    "difference",
  ]
  text = io.StringIO()
  writer = csv.DictWriter(text, fields, extrasaction="ignore")
  writer.writeheader()
  for entry in entries:
    ratio = entry["ratio"]
    writer.writerow(
      {
        **entry,
        "rounds": len(entry["times"]),
        "ratio": ratio["median"],
        "ratio_min": ratio["min"],
        "ratio_max": ratio["max"],
      }
    )
  return text.getvalue()


def _headline(result):
  setting, step = result["setting"], result["step"]
  torch = f"PyTorch {setting['torch']}" if setting["torch"] else "no PyTorch"
  threads = setting["blas_threads"]
  yield (
    f"{setting['devices']}, {setting['cores']} cores, JAX {setting['jax']},"
    f" {torch}, float32"
    + (f", {threads} BLAS thread(s) for JAX" if threads else "")
    + f"; {result['seconds'] / 60:.1f} minutes"
  )
  yield (
    f"The step ({step['name']}) takes {_time(step['seconds'])} at batch"
    f" {step['batch']}; shares are of that time, scaled to the rows."
  )


def _notes(result):
  limits = []
  if result["setting"]["longest"]:
    limits.append(f"calls predicted above {result['setting']['longest']:g} s")
  limits.append(f"all after {result['setting']['minutes']:g} minutes")
  yield (
    f"~: extrapolated from the nearest smaller size by its cost in products and"
    f" factorisations ({', '.join(limits)})."
  )
  yield (
    "memory: temporary memory of the compiled program, without the workspace of"
    " LAPACK; in brackets the other form's time over ours (median of rounds in"
    " turns)."
  )


# --- Tables ------------------------------------------------------------------
def _tables(result):
  """(title, header, rows) of each table."""
  entries = result["entries"]
  yield (
    "What is to be reached",
    ["target", "needed", "measured", ""],
    [
      [text, needed, measured, _VERDICTS[good]]
      for text, needed, measured, good in targets(result)
    ],
  )
  yield (
    "Forward and backward",
    [
      "quantity",
      "batch",
      "dim",
      "forward",
      "and backward",
      "memory",
      "of the step",
      "beside it, forward and backward",
    ],
    list(_rows_of_features(entries)),
  )
  yield (
    "By method, a dim x dim matrix of condition number about 50",
    ["quantity", "dim", "method", "forward", "and backward", "difference"],
    list(_rows_of_matrices(entries)),
  )
  yield (
    f"Which method is the fastest with a relative error below {_ACCURATE:g}",
    ["quantity", "pass", "fastest"],
    list(_winners(entries)),
  )


def _rows_of_features(entries):
  for (quantity, batch, dim), forms in _grouped(entries, matrices=False):
    forward, both = (forms.get((OURS, gradient)) for gradient in (False, True))
    shown = both or forward
    beside = [
      f"{form} {_cell(entry)} ({entry['ratio']['median']:.3g}x)"
      + (f" {_bytes(entry['temporary_bytes'])}" if "JAX" in form else "")
      for (form, gradient), entry in forms.items()
      if form != OURS and gradient
    ]
    yield [
      quantity,
      str(batch),
      str(dim),
      _cell(forward),
      _cell(both),
      _bytes(shown["temporary_bytes"]),
      f"{shown['share_of_step']:.2%}",
      "; ".join(beside),
    ]


def _rows_of_matrices(entries):
  for (quantity, _, dim), forms in _grouped(entries, matrices=True):
    for form in dict.fromkeys(form for form, _ in forms):
      forward = forms[form, False]
      difference = forward["difference"]
      yield [
        quantity,
        str(dim),
        form,
        _cell(forward),
        _cell(forms.get((form, True))),
        "" if difference is None else f"{difference:.1e}",
      ]


def _grouped(entries, *, matrices):
  """[((quantity, batch, dim), {(form, gradient): entry})] of one kind."""
  groups = {}
  for entry in entries:
    if matrices == (entry["batch"] == 0):
      key = entry["quantity"], entry["batch"], entry["dim"]
      form = entry["form"], entry["gradient"]
      groups.setdefault(key, {})[form] = entry
  order = list(dict.fromkeys(entry["quantity"] for entry in entries))
  return sorted(
    groups.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:])
  )


def _winners(entries):
  """One line per quantity and pass: the fastest method from which size on."""
  times, inaccurate = {}, set()
  for entry in entries:
    if entry["batch"] == 0:
      key = entry["quantity"], entry["gradient"]
      sizes = times.setdefault(key, {}).setdefault(entry["dim"], {})
      sizes[entry["form"]] = entry
      if (entry["difference"] or 0.0) > _ACCURATE:
        inaccurate.add((entry["quantity"], entry["form"]))
  for (quantity, gradient), sizes in times.items():
    fastest = []
    for dim, forms in sorted(sizes.items()):
      able = [f for f in forms if (quantity, f) not in inaccurate]
      best = min(able, key=lambda f: forms[f]["seconds"])
      if not fastest or fastest[-1][1] != best:
        fastest.append((dim, best))
    yield [
      quantity,
      "and backward" if gradient else "forward",
      ", ".join(f"{best} from {dim}" for dim, best in fastest),
    ]


# --- Cells -------------------------------------------------------------------
def _cell(entry):
  if entry is None:
    return "–"
  return ("~" if entry["extrapolated"] else "") + _time(entry["seconds"])


def _time(seconds):
  if seconds < 1:
    return f"{1e3 * seconds:.3g} ms"
  return f"{seconds:.3g} s"


def _bytes(number):
  return "unknown" if number is None else f"{number / 2**20:,.0f} MiB"
