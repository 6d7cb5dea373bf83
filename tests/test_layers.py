"""Who may import whom, read from the sources."""

import ast
from pathlib import Path
import subprocess
import sys
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "mmae_jax").rglob("*.py"))
PROGRAMS = sorted((ROOT / "launch").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
# Packages of the extra `language`, and the files that are written on top of
# tunix; everything else imports them inside functions, if at all.
OF_LANGUAGE = {"tunix", "qwix", "tokenizers", "transformers"}
ON_TUNIX = {"models.py", "weights.py", "trainer.py", "evaluate.py"}

# What a part must not import, from mmae_jax. The order is
#   information, models <- objectives <- train, evaluate, report <- launch;
# data and interop stand beside the models; language, on tunix, beside all of
# them: it takes the mathematics, the files of a run and the report.
LOOP = {"train", "evaluate", "report", "interop", "data", "language"}
FORBIDDEN = {
  "models": {"objectives", *LOOP},
  "objectives": LOOP,
  "data": {"objectives", "models", *LOOP - {"data"}},
  "evaluate": {"objectives", "language"},
  "report": {"objectives", "language"},
  "interop": {"objectives", "language"},
  "train": {"language"},
  "recipes": {"language"},
  "language": {"objectives", "models", "data", "evaluate", "interop"},
}
# What a part may import from other packages, where that is narrow.
LIBRARIES = {
  "information": {"jax", "numpy", "scipy"},
  "objectives": {"jax", "numpy", "flax", "optax"},
  "models": {"jax", "numpy", "flax"},
  "types.py": {"jax", "flax", "optax"},
  "config.py": {"ml_collections"},
}


class Import(NamedTuple):
  """One imported name, with its module: `mmae_jax.train.metrics`."""

  name: str
  lazy: bool


def imports(path: Path) -> list[Import]:
  """All imports of a file; lazy are those inside a function."""
  found = []

  def visit(node, lazy):
    if isinstance(node, ast.Import):
      found.extend(Import(alias.name, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      found.extend(
        Import(f"{node.module}.{alias.name}", lazy) for alias in node.names
      )
    inside = isinstance(node, ast.FunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
      visit(child, lazy or inside)

  visit(ast.parse(path.read_text()), False)
  return found


def part(path: Path) -> str:
  """`objectives` for mmae_jax/objectives/mae.py, `types.py` for that file."""
  if not path.is_relative_to(ROOT / "mmae_jax"):
    return ""
  return path.relative_to(ROOT / "mmae_jax").parts[0]


def library(name: str) -> str:
  return name.split(".")[0]


def ours(path: Path) -> set[str]:
  """The parts of mmae_jax that a file imports, itself apart."""
  names = (i.name.split(".") for i in imports(path))
  return {n[1] for n in names if n[0] == "mmae_jax" and len(n) > 1}


def ids(path: Path) -> str:
  return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PACKAGE, ids=ids)
def test_parts_of_the_package(path):
  parts = ours(path)
  assert not parts & FORBIDDEN.get(part(path), set())
  if part(path) == "information":
    assert parts <= {"information"}
  if part(path) == "objectives":
    assert parts <= {"objectives", "information", "models", "types"}
  if part(path) == "types.py":
    assert not parts


@pytest.mark.parametrize(
  "path", [p for p in PACKAGE if part(p) in LIBRARIES], ids=ids
)
def test_libraries_of_the_core(path):
  used = {library(i.name) for i in imports(path)}
  allowed = LIBRARIES[part(path)] | {"mmae_jax"} | sys.stdlib_module_names
  assert used <= allowed


@pytest.mark.parametrize("path", PACKAGE + PROGRAMS + CONFIGS, ids=ids)
def test_nothing_imports_tensorflow(path):
  assert not [i for i in imports(path) if library(i.name) == "tensorflow"]


@pytest.mark.parametrize("path", PACKAGE, ids=ids)
def test_torch_is_for_interop_alone_and_lazy(path):
  for item in imports(path):
    if library(item.name) == "torch":
      assert part(path) == "interop" and item.lazy, item


@pytest.mark.parametrize("path", PACKAGE + CONFIGS, ids=ids)
def test_tunix_is_for_language_alone(path):
  for item in imports(path):
    if library(item.name) not in OF_LANGUAGE:
      continue
    if library(item.name) == "transformers" and part(path) == "interop":
      assert item.lazy, item
    else:
      assert part(path) == "language", item
      assert item.lazy or path.name in ON_TUNIX, item


def test_language_loads_without_its_extra():
  """Data, answers and the loss are there, and the missing extra is named."""
  program = (
    "import sys; sys.modules.update(dict.fromkeys("
    f"{sorted(OF_LANGUAGE)}));"
    "from mmae_jax.language import (answers, arithmetic, checks, datasets,"
    " extra, families, loss, results, report);"
    "extra.require()"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert done.returncode == 1
  assert 'pip install -e ".[language]"' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("path", CONFIGS, ids=ids)
def test_configs_stand_alone(path):
  assert ours(path) <= {"augmentations", "config", "recipes", "models"}
  others = {library(i.name) for i in imports(path)} - sys.stdlib_module_names
  assert others <= {"mmae_jax", "ml_collections"}


def test_information_loads_nothing_heavy():
  program = (
    "import sys; from mmae_jax import information;"
    "print(*{name.split('.')[0] for name in sys.modules})"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    check=True,
    capture_output=True,
    text=True,
  )
  heavy = {"tensorflow_datasets", "grain", "orbax", "flax", "tensorflow"}
  assert not heavy & set(done.stdout.split())
