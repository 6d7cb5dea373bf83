"""Writes a scanned folder shard by shard, so that a killed run loses one.

A shard is finished when its .json stands beside it: the records are written
under another name and renamed, the .json comes last and is renamed too.
"""

from collections.abc import Callable
from concurrent import futures
import io
import json
import os
import pathlib
from typing import Any

from etils import epath
import tensorflow_datasets as tfds

from mmae_jax import types
from mmae_jax.data import images
from mmae_jax.data.datasets.image_folder import scan as scan_lib

LEDGER = "rejected.jsonl"
_FILES_PER_SHARD = 256
_MAX_SHARDS = 400  # a reader keeps one open file a shard
_SHOWN = 10
_ENOUGH = 100  # so many rotten files are all listed before we give up


def write_shards(
  scan: scan_lib.Scan,
  folder: pathlib.Path,
  *,
  serialize: Callable[[dict[str, Any]], bytes],
  max_rejected: float,
  threads: int,
  advance: Callable[[int], None],
) -> dict[str, list[dict[str, Any]]]:
  """Writes the shards that are not there yet.

  Args:
    scan: the folder's content.
    folder: where the shards go; finished ones of an earlier attempt are kept.
    serialize: example -> record.
    max_rejected: share of the files that may be rejected.
    threads: images checked at the same time.
    advance: called with the number of files done.
  Returns:
    {split: shards}, each {"path", "count", "bytes", "rejected"}, in order.
  Raises:
    UsageError: more files were rejected than `max_rejected` allows.
  """
  folder.mkdir(parents=True, exist_ok=True)
  rejected = [
    {"file": path, "reason": "lies beside the class folders"}
    for path in scan.misplaced
  ]
  advance(len(rejected))
  result = {}
  threads = max(1, threads)
  with futures.ThreadPoolExecutor(threads) as pool:
    for split, files in scan.splits.items():
      size = max(_FILES_PER_SHARD, -(-len(files) // _MAX_SHARDS))
      result[split] = []
      for number, start in enumerate(range(0, len(files), size)):
        part = files[start : start + size]
        path = folder / f"{split}-{number:05d}"
        shard = _read_finished(path)
        if shard is None:
          shard = _write(path, scan, part, serialize, pool, threads)
        result[split].append({"path": path, **shard})
        rejected += shard["rejected"]
        advance(len(part))
        if len(rejected) >= _ENOUGH:
          _check(rejected, scan, folder, max_rejected)
  _check(rejected, scan, folder, max_rejected)
  write_ledger(folder / LEDGER, rejected)
  return result


def write_ledger(path: pathlib.Path, rejected: list[dict[str, str]]) -> None:
  """One JSON object a line: {"file", "reason"}."""
  path.write_text("".join(json.dumps(entry) + "\n" for entry in rejected))


def read_ledger(path: epath.Path) -> list[dict[str, str]]:
  """What `write_ledger` wrote; an absent file is an empty ledger."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def _read_finished(path: pathlib.Path) -> dict[str, Any] | None:
  facts = path.with_suffix(".json")
  if facts.exists() and path.exists():
    return json.loads(facts.read_text())
  return None


def _write(path, scan, files, serialize, pool, threads):
  """Writes one shard; returns {"count", "bytes", "rejected"}."""

  def check(file):
    try:
      data = pathlib.Path(scan.folder, file.path).read_bytes()
      return images.storable(data), None
    except OSError as error:
      return None, error.strerror or str(error)
    except ValueError as error:
      return None, str(error)

  facts = {"count": 0, "bytes": 0, "rejected": []}

  def records():
    for few in _batched(files, 4 * threads):
      # Few at a time: a shard of large photographs need not fit in memory.
      for file, (data, reason) in zip(few, pool.map(check, few), strict=True):
        if reason is not None:
          facts["rejected"].append({"file": file.path, "reason": reason})
          continue
        record = serialize(_example(file, data))
        facts["count"] += 1
        facts["bytes"] += len(record)
        yield facts["count"], record

  unfinished = path.with_suffix(".part")
  writer = tfds.core.ExampleWriter(tfds.core.FileFormat.ARRAY_RECORD)
  writer.write(unfinished, records())
  os.replace(unfinished, path)
  unfinished.write_text(json.dumps(facts))
  os.replace(unfinished, path.with_suffix(".json"))
  return facts


def _batched(items, size):
  return (items[i : i + size] for i in range(0, len(items), size))


def _example(file, data):
  example = {
    "image": io.BytesIO(data),
    "file": file.path.encode("utf-8", "replace"),
  }
  if file.label != scan_lib.UNLABELLED:
    example["label"] = file.label
  return example


def _check(rejected, scan, folder, max_rejected):
  """Stops if too many files are rejected, with the list of them."""
  if len(rejected) <= max_rejected * scan.num_files:
    return
  ledger = folder / LEDGER
  write_ledger(ledger, rejected)
  lines = [f"  {e['file']}: {e['reason']}" for e in rejected[:_SHOWN]]
  if len(rejected) > _SHOWN:
    lines.append(f"  and {len(rejected) - _SHOWN} more, listed in {ledger}")
  raise types.UsageError(
    f"{scan.folder}: {len(rejected)} of {scan.num_files} files cannot be used,"
    f" more than --config.data.max_rejected={max_rejected:g} allows:\n"
    + "\n".join(lines)
  )
