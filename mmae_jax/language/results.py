"""What the cells of a run have found: their files, and one table."""

from collections.abc import Sequence
import itertools
import json
from typing import NamedTuple

from etils import epath
import numpy as np

from mmae_jax.language.accuracy import wilson
from mmae_jax.language.datasets import Data, Problems

FILE = "result.json"


class Result(NamedTuple):
  """One finished cell.

  Attributes:
    folder: of the cell, below the run's.
    seed: of weights and order.
    weight: of the matrix term.
    values: "accuracy", "interval", "right", "asked", "each", and of generated
      problems "held_out_ce", "held_out_mce"; what was measured.
    seconds: of training and of evaluation, compilation included, in the
      process that finished the cell.
  """

  folder: str
  seed: int
  weight: float
  values: dict
  seconds: tuple[float, float]


def name(weight: float) -> str:
  """A weight in the name of a folder: "ce", "ce_1mce"."""
  return f"ce_{weight:g}mce" if weight else "ce"


def title(weight: float) -> str:
  """A weight as it is read: "CE", "CE + 1 MCE"."""
  return f"CE + {weight:g} MCE" if weight else "CE"


def save(folder, seed, weight, values, seconds, config) -> Result:
  """Writes the result of a cell, last of all: it says that it is finished."""
  result = Result(str(folder), seed, weight, values, tuple(seconds))
  text = json.dumps(result._asdict() | _asked(config))
  partial = folder / f"{FILE}.partial"
  partial.write_text(text + "\n")
  partial.replace(folder / FILE)
  return result


def read(folder, config) -> Result | None:
  """A finished cell that was asked what a config asks; else None."""
  path = epath.Path(folder) / FILE
  if not path.exists():
    return None
  found = json.loads(path.read_text())
  asked = _asked(config)
  if {key: found.pop(key, None) for key in asked} != asked:
    return None
  return Result(**found)._replace(folder=str(folder))


def set_aside(folder) -> None:
  """Keeps what was found when a cell was asked otherwise: result-1.json, ..."""
  folder = epath.Path(folder)
  if not (folder / FILE).exists():
    return
  names = lambda n: {
    "generations.jsonl": f"generations-{n}.jsonl",
    FILE: f"result-{n}.json",
  }
  free = next(
    n for n in itertools.count(1) if not (folder / names(n)[FILE]).exists()
  )
  for name, kept in names(free).items():
    if (folder / name).exists():
      (folder / name).rename(folder / kept)


def _asked(config) -> dict:
  keys = ("test", "task", "test_limit")
  data = {key: config.data[key] for key in keys}
  return {"evaluation": config.evaluation.to_dict(), "data": data}


def write_longer(folder, data: Data, settings) -> None:
  """Lists the training examples above the limit, if there are any."""
  path = epath.Path(folder) / "too_long.jsonl"
  if not data.longer:
    path.unlink(missing_ok=True)
    return
  lines = [
    json.dumps({"example": i + 1, "query": data.problems.train[i].query})
    for i in data.longer
  ]
  path.write_text("\n".join(lines) + "\n")
  done = {"cut": "are cut", "drop": "are left out"}[settings.too_long]
  print(
    f"{len(data.longer):,} of {len(data.problems.train):,} training examples"
    f" have more than {settings.length} tokens and {done}: {path}",
    flush=True,
  )


def write(
  folder,
  config,
  found: Sequence[Result],
  problems: Problems,
  *,
  command: str,
) -> list[Result]:
  """Writes results.json, table.md and report.html, and prints the table.

  Args:
    folder: the run's.
    config: the run's.
    found: all cells.
    problems: both splits.
    command: what was typed.
  Returns:
    The cells.
  """
  from mmae_jax.language import report

  folder = epath.Path(folder)
  rows = [r._asdict() | {"folder": r.folder} for r in found]
  (folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
  text = markdown(found, command)
  (folder / "table.md").write_text(text)
  print(text, flush=True)
  page = report.write(folder, config, found, problems, command=command)
  print(f"report: {page}", flush=True)
  return list(found)


def markdown(found: Sequence[Result], command: str) -> str:
  """The table for people.

  Args:
    found: all cells.
    command: what was typed.
  Returns:
    Markdown: one line a loss over its seeds, and the paired comparison.
  """
  header, rows = table(found)
  lines = [
    "| " + " | ".join(header) + " |",
    "|---|" + "---:|" * (len(header) - 1),
    *("| " + " | ".join(row) + " |" for row in rows),
    "",
    *comparisons(found),
    "",
    f"- command: `{command}`",
  ]
  return "\n".join(lines) + "\n"


def table(found: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
  """One row a weight: mean and spread over its seeds.

  Args:
    found: all cells.
  Returns:
    (header, rows of text). With one seed the spread is left out; the interval
    is Wilson's of the mean, with the questions of one seed as the sample.
  """
  columns = {
    "held_out_ce": "held-out CE, nats",
    "held_out_mce": "held-out MCE, nats",
  }
  known = [c for c in columns if all(c in r.values for r in found)]
  asked = all("accuracy" in r.values for r in found)
  header = ["loss", "seeds"]
  if asked:
    header += ["exact match, %", "right of asked", "95 % interval, %"]
  header += [columns[c] for c in known] + ["training, s", "evaluation, s"]
  rows = []
  for weight in dict.fromkeys(r.weight for r in found):
    own = [r for r in found if r.weight == weight]
    row = [title(weight), str(len(own))]
    if asked:
      row += _accuracy_cells(own)
    row += [spread([r.values[c] for r in own], ".4f") for c in known]
    row += [spread([r.seconds[i] for r in own], ".0f") for i in (0, 1)]
    rows.append(row)
  return header, rows


def _accuracy_cells(own: Sequence[Result]) -> list[str]:
  right = sum(r.values["right"] for r in own)
  asked = sum(r.values["asked"] for r in own)
  # All seeds are asked the same questions: more seeds are no larger sample.
  mean = wilson(right / len(own), asked / len(own))
  return [
    spread([100 * r.values["accuracy"] for r in own], ".1f"),
    f"{right:,} of {asked:,}",
    f"{100 * mean.low:.1f} to {100 * mean.high:.1f}",
  ]


def spread(values: Sequence[float], form: str) -> str:
  """Mean ± sample standard deviation; of one value, that alone."""
  text = format(float(np.mean(values)), form)
  if len(values) > 1:
    text += f" ± {format(float(np.std(values, ddof=1)), form)}"
  return text


def comparisons(found: Sequence[Result]) -> list[str]:
  """Sentences that compare each loss with the first one, answer by answer."""
  by_cell = {(r.seed, r.weight): r for r in found if "each" in r.values}
  weights = list(dict.fromkeys(r.weight for r in found))
  lines = []
  for weight in weights[1:]:
    seeds = [
      s
      for s in dict.fromkeys(r.seed for r in found)
      if (s, weight) in by_cell and (s, weights[0]) in by_cell
    ]
    pairs = [
      pair
      for seed in seeds
      for pair in zip(
        by_cell[seed, weights[0]].values["each"],
        by_cell[seed, weight].values["each"],
        strict=True,
      )
    ]
    if not pairs:
      continue
    first = sum(a and not b for a, b in pairs)
    second = sum(b and not a for a, b in pairs)
    lines.append(
      f"Of {len(pairs):,} questions, asked after the same training order,"
      f" {first:,} were answered right by {title(weights[0])} alone and"
      f" {second:,} by {title(weight)} alone."
    )
  return lines
