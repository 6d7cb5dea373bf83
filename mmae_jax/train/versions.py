"""What a number was computed with: library versions and the commit."""

from importlib import metadata
import pathlib
import platform
import subprocess

_LIBRARIES = (
  "mmae_jax",
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "tensorflow-datasets",
  "numpy",
  "pillow",
)


def libraries() -> dict[str, str]:
  """Versions of Python and of the libraries a run depends on."""
  return {"python": platform.python_version()} | of(*_LIBRARIES)


def of(*names: str) -> dict[str, str]:
  """Versions of installed packages; "unknown" where there is none."""
  found = {}
  for name in names:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      found[name] = "unknown"
  return found


def commit() -> str:
  """The commit of this checkout, with "+changes"; "unknown" outside git."""
  root = pathlib.Path(__file__).resolve().parents[2]
  if not (root / ".git").exists():
    return "unknown"

  def git(*args):
    return subprocess.run(
      ["git", *args], cwd=root, capture_output=True, text=True, timeout=10
    )

  try:
    head = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
  except (OSError, subprocess.TimeoutExpired):
    return "unknown"
  if head.returncode:
    return "unknown"
  return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
