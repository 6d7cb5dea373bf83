"""Command lines of the programs in launch/: a mistake is one line, exit 1."""

import argparse
from collections.abc import Mapping, Sequence
import difflib
import keyword
import os
import pathlib
import re
import sys
import traceback
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

_EXAMPLE = "python launch/train.py --config=configs/mmae.py"
_NEAREST = 3


def argument_parser(description: str) -> argparse.ArgumentParser:
  """An argparse parser that ends with one line and exit code 1."""
  parser = argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.error = lambda message: _refuse(f"{message} (see --help)")
  return parser


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses absl's flags and `--config`; for `app.run(flags_parser=...)`.

  ml_collections reads a dotted key as Python, where the views' name `global`
  is a keyword: `--config.views.global.size=16` is handed on as
  `--config.views["global"].size=16`, in sys.argv too, which it also reads.

  Args:
    argv: the command line with the program's name.
  Returns:
    [the program's name]; positional arguments are refused.
  """
  typed = list(argv)
  sys.argv[:] = [_without_keywords(text) for text in typed]
  try:
    left = flags.FLAGS(sys.argv)
    if left[1:]:
      hint = f", did you mean --config={left[1]}?" if ".py" in left[1] else ""
      _refuse(f"{left[1]}: unexpected argument{hint} (see --help)")
    if "config" in flags.FLAGS:
      config, path = flags.FLAGS["config"].value, _config_path(typed)
      if config is None and not path:
        _refuse(f"--config is missing; for example: {_EXAMPLE}")
      if not hasattr(config, "lock"):  # OSError: the file cannot be read
        _refuse(f"--config={path}: get_config() returns {config!r}")
  except Exception as error:
    _refuse(_explain(error, typed))
  return left


def begin_training(*, deterministic: bool) -> None:
  """What a program that trains sets before JAX starts.

  Args:
    deterministic: bit-identical kernels on GPUs, slower.
  """
  from mmae_jax.train import memory, noise

  if not flags.FLAGS["verbosity"].present:
    noise.hush()
  if deterministic:
    os.environ["XLA_FLAGS"] = (
      os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    )
  memory.keep_freed_memory()


def _refuse(message: str) -> NoReturn:
  sys.exit(f"error: {message}")


def _without_keywords(text: str) -> str:
  key, equals, value = text.partition("=")
  if not re.match(r"--?config\.", key):
    return text
  first, *parts = key.split(".")
  parts = [f'["{p}"]' if keyword.iskeyword(p) else f".{p}" for p in parts]
  return "".join([first, *parts]) + equals + value


def _explain(error: Exception, argv: Sequence[str]) -> str:
  """One line, or a UsageError's own, for whoever typed `argv`."""
  path = _config_path(argv)
  file = path.partition(":")[0]
  if path and not os.path.isfile(file):
    return f"--config={path}: no such config file{_config_files(file)}"
  chain = [error]
  while cause := chain[-1].__cause__ or chain[-1].__context__:
    chain.append(cause)
  for cause in reversed(chain):
    if type(cause).__name__ == "UsageError":  # of mmae_jax.recipes
      return str(cause)
  for cause in chain:
    frames = traceback.extract_tb(cause.__traceback__)
    said = f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}"
    lines = [frame.lineno for frame in frames if frame.filename == file]
    if lines:
      return f"--config={path}: line {lines[-1]}: {said}"
    if isinstance(cause, SyntaxError) and not isinstance(error, ValueError):
      return f"--config={path}: {said}"
  missing = isinstance(error, LookupError | AttributeError)
  if missing and (unknown := _unknown_key(argv, path)):
    return unknown
  if not isinstance(error, flags.Error) or "config file" in str(error):
    return f"--config={path}: {said}"
  return f"{str(error).removeprefix('flag ').splitlines()[0]} (see --help)"


def _config_path(argv: Sequence[str]) -> str:
  """What stands behind `--config`, as one or as two arguments."""
  for text, following in zip(argv, [*argv[1:], ""], strict=True):
    if found := re.fullmatch(r"--?config(=.*)?", text, re.DOTALL):
      return found[1][1:] if found[1] else following
  return ""


def _config_files(file: str) -> str:
  """The config files beside the missing one, or in configs/."""
  for folder in (pathlib.Path(file).parent, pathlib.Path("configs")):
    if names := [str(path) for path in sorted(folder.glob("*.py"))]:
      near = difflib.get_close_matches(file, names, _NEAREST) or names
      return f"; there are {', '.join(near)}"
  return f", seen from {os.getcwd()}"


def _unknown_key(argv: Sequence[str], path: str) -> str | None:
  """Names the first `--config.key` that the config does not have."""
  from mmae_jax import config as config_lib

  plain = flags.FlagValues()  # the same file without what overrides it
  config = config_flags.DEFINE_config_file(
    "config", None, flag_values=plain, sys_argv=[]
  )
  plain(["", f"--config={path}"])
  if not isinstance(config.value, Mapping | ConfigDict):
    return None
  keys = list(config_lib.flatten(config.value))
  for text in argv:
    key, equals, value = text.lstrip("-").partition("=")
    key = key.removeprefix("config.")
    known = any(f"{k}.".startswith(f"{key}.") for k in keys)
    if known or not re.match(r"--?config\.", text):
      continue
    last = key.rpartition(".")[2]
    near = [k for k in keys if last in k.rpartition(".")[2]]
    near = near or difflib.get_close_matches(key, keys, _NEAREST)
    hint = ", ".join(f"--config.{k}" for k in near[:_NEAREST])
    return f"--config.{key}{equals}{value}: the config has no such key" + (
      f"; nearest: {hint}" if near else ""
    )
  return None
