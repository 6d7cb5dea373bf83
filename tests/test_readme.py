"""What the README and the configs promise exists, and CI runs the same."""

import ast
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).resolve().parents[1]
READMES = [
  path
  for path in sorted(ROOT.rglob("README.md"))
  if not any(part.startswith(".") or part == "runs" for part in path.parts)
]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
START = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
COMMANDS = [
  START + ". && python launch/train.py --config=configs/mmae.py",
  START + '".[test]" && pytest',
]
# Of mmae_jax/language/README.md, in an environment of its own.
OF_LANGUAGE = (
  "python3 -m venv .venv-language && . .venv-language/bin/activate && pip"
  ' install -e ".[test,language]" && pytest tests/language'
)


def names(path: Path) -> str:
  return str(path.relative_to(ROOT))


def commands(path: Path) -> list[str]:
  """Command lines of the fenced shell blocks, continuations joined."""
  blocks = re.findall(
    r"^```(?:bash|sh|shell|console)\n(.*?)^```", path.read_text(), re.M | re.S
  )
  joined = "\n".join(blocks).replace("\\\n", " ")
  lines = [line.partition(" #")[0].strip() for line in joined.splitlines()]
  return [" ".join(line.split()) for line in lines if line and line[0] != "#"]


def headings(path: Path) -> set[str]:
  """Anchors of a page's headings, as GitHub makes them."""
  found = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
  kept = (re.sub(r"[^\w\- ]", "", text.lower()) for text in found)
  return {text.strip().replace(" ", "-") for text in kept}


@pytest.mark.parametrize("path", READMES, ids=names)
def test_links_lead_somewhere(path):
  for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
    if re.match(r"[a-z]+:", target):
      continue
    file, _, anchor = target.partition("#")
    page = path.parent / file if file else path
    assert page.exists(), target
    if anchor:
      assert anchor in headings(page), target


@pytest.mark.parametrize("path", READMES, ids=names)
def test_commands_name_files_that_exist(path):
  for line in commands(path):
    for program in re.findall(r"\b(?:launch|configs)/[\w.]+", line):
      assert (ROOT / program).is_file(), line


def test_the_two_commands_come_first_and_ci_runs_them():
  assert commands(ROOT / "README.md")[:2] == COMMANDS
  script = (ROOT / ".ci/run").read_text()
  lines = re.sub(r"^\s*(?:#.*)?\n", "", script, flags=re.M)
  parts = re.findall(r"^\((.*?)^\)", lines, re.M | re.S)
  run = [" ".join(part.split()) for part in parts]
  assert len(run) == len(COMMANDS) + 1
  run = [re.sub(r' && echo "[^"]*"', "", command) for command in run]
  # The differences that .ci/run states at its head.
  assert run[0] == COMMANDS[0]
  assert run[1] == COMMANDS[1].replace(
    'pip install -e ".[test]"',
    'pip install torch==2.13.0 && pip install -e ".[test,torch]"',
  ).replace("pytest", "pytest --durations=20")
  assert OF_LANGUAGE in commands(ROOT / "mmae_jax/language/README.md")
  assert run[2] == f"{OF_LANGUAGE} --durations=20"


@pytest.mark.parametrize("path", CONFIGS, ids=names)
def test_a_config_opens_with_command_cost_and_number(path):
  source = path.read_text()
  text = ast.get_docstring(ast.parse(source))
  program = "finetune_language" if "recipes.LANGUAGE" in source else "train"
  command = f"python launch/{program}.py --config=configs/{path.name}"
  assert re.search(rf"^Command: +{re.escape(command)}$", text, re.M)
  assert re.search(r"^Cost: +\S", text, re.M)
  assert re.search(r"^Number: +\S", text, re.M)


@pytest.mark.parametrize("path", CONFIGS, ids=names)
def test_a_config_explains_each_of_its_arguments(path):
  text = path.read_text()
  described = set(re.findall(r"^  :(\w+)", text, re.M))
  used = set(re.findall(r'"((?:vit_|fashion_|cifar)\w+)"', text))
  assert used <= described


@pytest.mark.parametrize("path", [*READMES, *CONFIGS], ids=names)
def test_nothing_waits_to_be_measured(path):
  assert not re.findall("to be measured|not measured yet|@@", path.read_text())


def test_the_table_of_methods_is_complete():
  text = (ROOT / "README.md").read_text()
  for path in CONFIGS:
    assert f"configs/{path.name}" in text
