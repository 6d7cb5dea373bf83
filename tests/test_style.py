"""The house style, as far as a program can see it (after dm_pix)."""

import ast
import importlib
import inspect
from pathlib import Path
import re
import subprocess
import sys
import types

import pytest

from mmae_jax import information, objectives

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "mmae_jax").rglob("*.py"))
METHODS = objectives.available()
FOLDERS = (".ci", "configs", "launch", "mmae_jax", "tests")
BINARY = (".pyc", ".png", ".jpg", ".npz")
TEXTS = [
  ROOT / "README.md",
  ROOT / "pyproject.toml",
  *(
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and path.suffix not in BINARY
  ),
]
MOST_LINES = 300


def modules(folder: str) -> list[types.ModuleType]:
  """The modules of a part of the package."""
  return [
    importlib.import_module(
      ".".join(path.relative_to(ROOT).with_suffix("").parts)
    )
    for path in PACKAGE
    if path.parent == ROOT / "mmae_jax" / folder and path.stem != "__init__"
  ]


FUNCTIONS = [
  function
  for folder in ("information", "objectives")
  for module in modules(folder)
  for name, function in inspect.getmembers(module, inspect.isfunction)
  if function.__module__ == module.__name__ and not name.startswith("_")
]
# A helper that information's own files share is not for users: a sentence does.
DOCUMENTED = [
  function
  for function in FUNCTIONS
  if function.__module__.startswith("mmae_jax.objectives")
  or hasattr(information, function.__name__)
]


def full_name(function) -> str:
  return f"{function.__module__.removeprefix('mmae_jax.')}.{function.__name__}"


def returns_something(function) -> bool:
  """Whether a `return` with a value belongs to the function itself."""
  tree = ast.parse(inspect.getsource(function).lstrip())

  def visit(node) -> bool:
    if isinstance(node, ast.Return):
      return node.value is not None
    children = ast.iter_child_nodes(node)
    nested = (ast.FunctionDef, ast.Lambda)
    return any(visit(c) for c in children if not isinstance(c, nested))

  return visit(tree.body[0])


@pytest.mark.parametrize("function", FUNCTIONS, ids=full_name)
def test_signature(function):
  parameters = inspect.signature(function).parameters
  if "key" in parameters:
    assert next(iter(parameters)) == "key", "`key` comes first"
  for name, parameter in parameters.items():
    if parameter.default is not parameter.empty:
      assert parameter.kind is parameter.KEYWORD_ONLY, (
        f"{name} has a default, so it must be keyword-only"
      )


@pytest.mark.parametrize("function", FUNCTIONS, ids=full_name)
def test_first_line(function):
  text = inspect.getdoc(function)
  assert text, "no docstring"
  first = text.splitlines()[0]
  assert first.endswith(".") and not re.search(r"\w{2,}\. [A-Z]", first), (
    f"the first line is one sentence, not {first!r}"
  )


@pytest.mark.parametrize("function", DOCUMENTED, ids=full_name)
def test_sections(function):
  text = inspect.getdoc(function)
  found = set(re.findall(r"^([A-Z]\w+):$", text, re.M))
  parameters = inspect.signature(function).parameters
  if parameters:
    assert "Args" in found
    described = text.split("Args:")[1]
    for name in parameters:
      assert re.search(rf"\b{name}\b", described), f"{name} is not described"
    if returns_something(function):
      assert "Returns" in found
  if function.__module__.startswith("mmae_jax.information"):
    assert "Source" in found, "where does the formula come from?"


@pytest.mark.parametrize("name", METHODS)
def test_an_objective_exports_its_loss_and_make(name):
  module = importlib.import_module(f"mmae_jax.objectives.{name}")
  assert inspect.isfunction(getattr(module, f"{name}_loss", None))
  assert list(inspect.signature(module.make).parameters)[:2] == [
    "encoder",
    "run",
  ]


@pytest.mark.parametrize(
  "path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_file_has_a_docstring_and_is_short(path):
  text = path.read_text()
  assert len(text.splitlines()) <= MOST_LINES
  if text.strip():
    assert ast.get_docstring(ast.parse(text)), "what is this file for?"


@pytest.mark.parametrize(
  "path", TEXTS, ids=lambda path: str(path.relative_to(ROOT))
)
def test_nothing_is_left_over(path):
  text = path.read_text()
  # Written apart, so that this file passes its own test.
  for word in ("TO" + "DO", "FIX" + "ME", "X" * 3):
    assert not re.search(rf"\b{word}\b", text), word
  machine = "|".join(["home", "root", "Users", "work", "tmp"])
  paths = re.findall(rf"(?<![\w.$}}*~-])/(?:{machine})/[\w.-]+", text)
  assert not paths, "a path of one machine"


@pytest.mark.parametrize(
  "arguments", [["check"], ["format", "--check"]], ids=["check", "format"]
)
def test_ruff(arguments):
  done = subprocess.run(
    [sys.executable, "-m", "ruff", *arguments, "--no-cache", ROOT],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
