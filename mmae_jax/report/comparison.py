"""The table of a sweep: mean and spread over seeds, from the runs' folders."""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import json
import os
from pathlib import Path
import platform
import statistics

from mmae_jax.report.charts import typical_speed
from mmae_jax.report.run import read_run


@dataclasses.dataclass(frozen=True)
class Column:
  """One measured quantity.

  Attributes:
    name: its key in table.csv and table.json.
    title: its heading in table.md.
    factor: what the value is multiplied by in table.md.
    digits: decimals in table.md.
  """

  name: str
  title: str
  factor: float = 1.0
  digits: int = 2


COLUMNS = (
  Column("knn_accuracy", "k-NN, %", factor=100),
  Column("linear_accuracy", "linear, %", factor=100),
  Column("effective_rank", "effective rank"),
  Column("matrix_entropy", "entropy, nats", digits=3),
  Column("loss", "final loss", digits=4),
  Column("images_per_second", "images/s", digits=0),
  Column("seconds", "wall time, s", digits=0),
)
_EVALUATED = (
  "knn_accuracy",
  "linear_accuracy",
  "effective_rank",
  "matrix_entropy",
)


def is_finished(workdir) -> bool:
  """Whether the last process that ended there has finished the run."""
  ends = read_run(workdir, config={}).of("end")
  return bool(ends) and ends[-1].get("status") == "finished"


def measure(workdir) -> dict[str, float]:
  """What a run has reached.

  Args:
    workdir: the run's folder.
  Returns:
    {column name: value}: the last value of each; the wall time of all
    processes that worked on the run. A quantity that was never recorded is
    left out.
  """
  run = read_run(workdir, config={})
  values = {name: run.series("eval", name).last for name in _EVALUATED}
  values["loss"] = run.series("train", "loss").last
  values["images_per_second"] = typical_speed(run)
  values["seconds"] = sum(session.seconds for session in run.sessions())
  return {
    name: value
    for name, value in values.items()
    if value is not None and value == value
  }


def spread(values: Sequence[float]) -> tuple[float, float | None]:
  """Mean and sample standard deviation; None for a single value."""
  deviation = statistics.stdev(values) if len(values) > 1 else None
  return statistics.mean(values), deviation


@dataclasses.dataclass(frozen=True)
class Row:
  """One run of a sweep.

  Attributes:
    method: the config's name and argument; runs of one method are averaged.
    seed: the run's seed.
    workdir: the run's folder.
    state: "finished", "failed (exit 1)", ...; only finished runs count.
  """

  method: str
  seed: int
  workdir: Path
  state: str


def write_table(out: Path, command: str, rows: Sequence[Row]) -> str:
  """Writes table.md, table.csv and table.json.

  Args:
    out: the folder they are written to.
    command: the command line that made the sweep.
    rows: the runs, in the order of the table.
  Returns:
    The text of table.md.
  """
  finished = [row for row in rows if row.state == "finished"]
  measured = {row: measure(row.workdir) for row in finished}
  methods = [
    _method(method, [row for row in rows if row.method == method], measured)
    for method in dict.fromkeys(row.method for row in rows)
  ]
  runs = [
    {
      "method": row.method,
      "seed": row.seed,
      "state": row.state,
      "workdir": str(row.workdir),
      **measured.get(row, {}),
    }
    for row in rows
  ]
  facts = {"command": command, **_facts(finished)}
  text = _markdown(facts, methods, [row for row in rows if row not in finished])
  (out / "table.md").write_text(text)
  (out / "table.json").write_text(
    json.dumps({**facts, "methods": methods, "runs": runs}, indent=2) + "\n"
  )
  with open(out / "table.csv", "w", newline="") as file:
    names = ["method", "seed", "state", "workdir", *[c.name for c in COLUMNS]]
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(runs)
  return text


def _method(
  method: str, rows: Sequence[Row], measured: Mapping[Row, Mapping]
) -> dict:
  """One line of the table: {column: {"mean", "deviation", "n"}}."""
  line = {
    "method": method,
    "runs": len(rows),
    "finished": sum(row in measured for row in rows),
  }
  for column in COLUMNS:
    values = [
      measured[row][column.name]
      for row in rows
      if column.name in measured.get(row, {})
    ]
    if values:
      mean, deviation = spread(values)
      line[column.name] = {
        "mean": mean,
        "deviation": deviation,
        "n": len(values),
      }
  return line


def _facts(rows: Sequence[Row]) -> dict:
  """The machine, and what the runs say about devices, versions and commit."""
  headers = [read_run(row.workdir, config={}).header() for row in rows]

  def distinct(name):
    return list(dict.fromkeys(str(h[name]) for h in headers if name in h))

  return {
    "machine": f"{os.cpu_count()} CPUs, {platform.machine()},"
    f" {platform.system()}, Python {platform.python_version()}",
    "devices": distinct("devices"),
    "versions": distinct("versions"),
    "commits": distinct("commit"),
  }


def _markdown(
  facts: Mapping, methods: Sequence[Mapping], unfinished: Sequence[Row]
) -> str:
  """The table for people, with what is needed to repeat it."""
  lines = [
    "| method | n | " + " | ".join(c.title for c in COLUMNS) + " |",
    "|---|---:|" + "---:|" * len(COLUMNS),
  ]
  for line in methods:
    count = str(line["finished"])
    if line["finished"] < line["runs"]:
      count += f" of {line['runs']}"
    cells = [_cell(line.get(column.name), column) for column in COLUMNS]
    lines.append(f"| {line['method']} | {count} | " + " | ".join(cells) + " |")
  lines += ["", "Mean ± sample standard deviation over n seeds."]
  if unfinished:
    lines += ["", "Not finished, and not in the table:", ""]
    lines += [f"- {row.workdir}: {row.state}" for row in unfinished]
  lines += [
    "",
    f"- command: `{facts['command']}`",
    f"- machine: {facts['machine']}",
    f"- devices: {'; '.join(facts['devices']) or 'unknown'}",
    f"- commit: {', '.join(facts['commits']) or 'unknown'}",
  ]
  return "\n".join(lines) + "\n"


def _cell(value: Mapping | None, column: Column) -> str:
  if value is None:
    return "–"
  mean = f"{value['mean'] * column.factor:.{column.digits}f}"
  if value["deviation"] is None:
    return mean
  return f"{mean} ± {value['deviation'] * column.factor:.{column.digits}f}"
