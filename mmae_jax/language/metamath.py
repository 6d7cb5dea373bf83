"""Data files: a JSON list of {"query": ..., "response": ...}, as MetaMathQA's.

Also read: one such object a line (.jsonl). GSM8K's and MATH's own files have
other names for the two texts; those are taken as well.
"""

from collections.abc import Callable
import json

from etils import epath

from mmae_jax.language.arithmetic import Problem
from mmae_jax.types import UsageError

# In the order in which they are looked for.
_QUERIES = ("query", "question", "problem", "instruction")
# A solution, where it stands beside its answer alone.
_RESPONSES = ("response", "solution", "answer", "output")


def read(
  path: str,
  *,
  flag: str,
  reference: Callable[[str], object | None],
  limit: int = 0,
) -> list[Problem]:
  """Reads a file of questions and solutions.

  Args:
    path: .json, a list of objects, or .jsonl, an object a line.
    flag: the flag that named the file, for errors.
    reference: finds a solution's answer, None where it has none.
    limit: only so many, from the beginning; 0 is all.
  Returns:
    The records in the file's order.
  Raises:
    UsageError: the file is missing or malformed (with the line), a record is
      not an object with both texts, or a solution has no answer (with the
      record's number); nothing is skipped silently.
  """
  file = epath.Path(path)
  if not path or not file.is_file():
    raise UsageError(f"{flag}={path}: no such file; a JSON list of records")
  try:
    text = file.read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UsageError(f"{flag}={path}: cannot be read ({error})") from error
  where = f"{flag}={path}"
  rows = _lines(text, where) if path.endswith(".jsonl") else _list(text, where)
  rows = rows[:limit] if limit else rows
  if not rows:
    raise UsageError(f"{where}: has no records")
  problems = [_problem(row, f"{where}: {place}") for place, row in rows]
  without = [
    place
    for (place, _), problem in zip(rows, problems, strict=True)
    if reference(problem.response) is None
  ]
  if without:
    raise UsageError(
      f"{where}: {len(without):,} of {len(rows):,} solutions have no answer"
      f' ("The answer is: "): {_some(without)}'
    )
  return problems


def _list(text: str, where: str) -> list[tuple[str, object]]:
  try:
    rows = json.loads(text)
  except json.JSONDecodeError as error:
    raise UsageError(
      f"{where}: line {error.lineno} is not JSON ({error.msg})"
    ) from error
  if not isinstance(rows, list):
    raise UsageError(f"{where}: is a {type(rows).__name__}, not a list")
  return [(f"record {i}", row) for i, row in enumerate(rows, 1)]


def _lines(text: str, where: str) -> list[tuple[str, object]]:
  rows = []
  # Not splitlines: a text may have the further line ends of Unicode.
  for i, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    try:
      rows.append((f"line {i}", json.loads(line)))
    except json.JSONDecodeError as error:
      raise UsageError(
        f"{where}: line {i} is not JSON ({error.msg})"
      ) from error
  return rows


def _problem(row: object, where: str) -> Problem:
  if not isinstance(row, dict):
    raise UsageError(f"{where} is a {type(row).__name__}, not an object")
  texts = []
  for names in (_QUERIES, _RESPONSES):
    found = next((name for name in names if name in row), None)
    if found is None or not isinstance(row[found], str):
      raise UsageError(f'{where} has no text "{names[0]}"')
    texts.append(row[found])
  return Problem(*texts)


def _some(places: list[str], most: int = 8) -> str:
  more = f", … ({len(places) - most:,} more)" if len(places) > most else ""
  return ", ".join(places[:most]) + more
