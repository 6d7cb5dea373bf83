"""Which checkpoints are sound: digests of their files.

Every checkpoint holds `digests.json`, the SHA-256 of all its other files,
written before it gets its final name, so that a changed byte or a missing file
is noticed before anything is read.
"""

import hashlib
import json

from etils import epath

from mmae_jax.types import UsageError

FILE = "digests.json"
_CHUNK = 2**24


def _files(folder):
  """All files below a folder; epath has no recursive glob."""
  for path in sorted(folder.iterdir()):
    if path.is_dir():
      yield from _files(path)
    else:
      yield path


def _digest(path):
  digest = hashlib.sha256()
  with path.open("rb") as file:
    while chunk := file.read(_CHUNK):
      digest.update(chunk)
  return digest.hexdigest()


def _items(folder):
  """The files below the items; those beside them belong to orbax alone."""
  for item in sorted(folder.iterdir()):
    if item.is_dir():
      yield from _files(item)


def write(folder) -> None:
  """Leaves the digests of a checkpoint's files beside them."""
  digests = {
    str(path.relative_to(folder)): _digest(path) for path in _items(folder)
  }
  (folder / FILE).write_text(json.dumps(digests, indent=1))


def fault(folder) -> str | None:
  """What is wrong with the files of a checkpoint; None if they are sound."""
  folder = epath.Path(folder)
  recorded_path = folder / FILE
  if not recorded_path.exists():
    return f"incomplete: {FILE} is missing"
  try:
    recorded = json.loads(recorded_path.read_bytes())
    for name, digest in sorted(recorded.items()):
      if not (folder / name).exists():
        return f"incomplete: {name} is missing"
      if _digest(folder / name) != digest:
        return f"changed: the bytes of {name} are not those written"
  except (ValueError, AttributeError):
    return f"changed: {FILE} is not what was written"
  except OSError as e:
    return f"unreadable: {e}"
  return None


def steps(folder) -> list[int]:
  """Committed steps under `checkpoints/`, ascending, sound or not."""
  folder = epath.Path(folder)
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def newest_sound(folder):
  """The newest checkpoint whose files are sound.

  Args:
    folder: `<workdir>/checkpoints`.
  Returns:
    (step, faults): step is None where there is no checkpoint at all; faults
    are lines that name the newer, unsound ones.
  Raises:
    UsageError: there are checkpoints, but none is sound; nothing is deleted.
  """
  folder = epath.Path(folder)
  faults = []
  for step in reversed(steps(folder)):
    problem = fault(folder / str(step))
    if problem is None:
      return step, faults
    faults.append(f"{folder / str(step)}: {problem}")
  if faults:
    raise UsageError(
      "no sound checkpoint is left; nothing was deleted:\n  "
      + "\n  ".join(faults)
      + "\nrestore these files, or start anew with another --workdir"
    )
  return None, faults


def set_aside(folder, newest, *, to="unsound") -> None:
  """Moves the checkpoints newer than `newest` to a folder of the run.

  Their numbers are needed again; nothing is deleted. Process 0 only.
  """
  folder = epath.Path(folder)
  aside = folder.parent / to
  for step in steps(folder):
    if step > newest:
      aside.mkdir(parents=True, exist_ok=True)
      number = len(
        [p for p in aside.iterdir() if p.name.startswith(f"{step}-")]
      )
      (folder / str(step)).rename(aside / f"{step}-{number}")
