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
    name: its key in table.csv and table.json; as in the runs' records, where
      it is one of them.
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
  Column("untrained_knn_accuracy", "k-NN untrained, %", factor=100),
  Column("linear_accuracy", "linear, %", factor=100),
  Column("effective_rank", "effective rank"),
  Column("matrix_entropy", "entropy, nats", digits=3),
  Column("sample_mutual_information_2", "mutual information, nats", digits=3),
  Column("sample_joint_entropy_2", "joint entropy, nats", digits=3),
  Column("effective_rank_a", "rank of branch a"),
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
_PLANE = (
  "sample_mutual_information_2",
  "sample_joint_entropy_2",
  "effective_rank_a",
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
    {column name: value}: the last value of each, those of the branches from
    the last point of the information plane; the untrained encoder's accuracy
    from the evaluation before the first step; the wall time of all processes
    that worked on the run. A quantity that was not recorded is left out.
  """
  run = read_run(workdir, config={})
  values = {name: run.series("eval", name).last for name in _EVALUATED}
  for record in run.of("eval"):
    if record["step"] == 0:
      values["untrained_knn_accuracy"] = record.get("knn_accuracy")
  for record in run.of("plane")[-1:]:
    values |= {name: record.get(name) for name in _PLANE}
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
  """The machine, and what the runs say about themselves and their planes."""
  runs = [read_run(row.workdir, config={}) for row in rows]
  headers = [run.header() for run in runs]
  points = [record for run in runs for record in run.of("plane")[-1:]]

  def distinct(name):
    return list(dict.fromkeys(str(h[name]) for h in headers if name in h))

  def sizes(name):
    return sorted({point[name] for point in points if name in point})

  return {
    "machine": f"{os.cpu_count()} CPUs, {platform.machine()},"
    f" {platform.system()}, Python {platform.python_version()}",
    "devices": distinct("devices"),
    "versions": distinct("versions"),
    "commits": distinct("commit"),
    "plane_images": sizes("rows"),
    "plane_dimensions": sizes("dimensions"),
  }


def _markdown(
  facts: Mapping, methods: Sequence[Mapping], unfinished: Sequence[Row]
) -> str:
  """The table for people, with what is needed to repeat it."""
  columns = [c for c in COLUMNS if any(c.name in line for line in methods)]
  lines = [
    "| " + " | ".join(["method", "n", *(c.title for c in columns)]) + " |",
    "|---|---:|" + "---:|" * len(columns),
  ]
  for line in methods:
    count = str(line["finished"])
    if line["finished"] < line["runs"]:
      count += f" of {line['runs']}"
    cells = [_cell(line.get(column.name), column) for column in columns]
    lines.append("| " + " | ".join([line["method"], count, *cells]) + " |")
  lines += ["", "Mean ± sample standard deviation over n seeds."]
  if any(column.name in _PLANE for column in columns):
    lines[-1] += " " + _about_the_plane(facts)
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


def _about_the_plane(facts: Mapping) -> str:
  """What the columns of the branches are of, and when they compare."""
  images, dimensions = (
    " and ".join(f"{size:,}" for size in facts[name]) or "unknown"
    for name in ("plane_images", "plane_dimensions")
  )
  text = (
    "Mutual information and joint entropy are those of both branches, sample"
    " side, order 2, and stand with branch a's effective rank for the last"
    f" point of the information plane (images: {images}; dimensions of a"
    f" branch: {dimensions})."
  )
  if max(len(facts[n]) for n in ("plane_images", "plane_dimensions")) > 1:
    text += " They depend on both numbers: compare at equal ones."
  return text


def _cell(value: Mapping | None, column: Column) -> str:
  if value is None:
    return "–"
  mean = f"{value['mean'] * column.factor:.{column.digits}f}"
  if value["deviation"] is None:
    return mean
  return f"{mean} ± {value['deviation'] * column.factor:.{column.digits}f}"
