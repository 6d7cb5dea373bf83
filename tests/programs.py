"""Runs the programs of launch/ inside the test's process, as from a shell."""

import importlib.util
import pathlib
import sys
from unittest import mock

from absl import flags
import array_record.python.array_record_data_source  # noqa: F401
import grain.python  # noqa: F401

from mmae_jax import command_line
from mmae_jax.train import stop

# array_record and grain define flags when they are imported: above, so that no
# program's call does it, whose new flags are removed at its end.
LAUNCH = pathlib.Path(__file__).resolve().parents[1] / "launch"


def call(name, *arguments):
  """Runs launch/<name>.py; sys.argv and absl's flags are put back afterwards.

  Args:
    name: "train", "evaluate", "sweep", ....
    *arguments: what stands behind the program's name.
  Returns:
    (exit code, message): the message is what `sys.exit` was given to print.
  """
  argv = [f"launch/{name}.py", *map(str, arguments)]
  before = set(flags.FLAGS)
  with mock.patch.object(sys, "argv", list(argv)):
    try:
      spec = importlib.util.spec_from_file_location(
        f"launch_{name}", LAUNCH / f"{name}.py"
      )
      module = importlib.util.module_from_spec(spec)
      sys.modules[spec.name] = module  # its dataclasses look themselves up
      spec.loader.exec_module(module)
      if name == "train":
        parsed = command_line.parse_flags(sys.argv)
        code = module.main(parsed, stop.StopSignal())
      elif name == "finetune_language":
        parsed = command_line.parse_flags(sys.argv)
        code = module.main(parsed, stop.StopSignal(), command=" ".join(argv))
      elif name == "prepare_data":
        code = module.main(command_line.parse_flags(sys.argv))
      else:
        code = module.main()
    except SystemExit as e:
      code = e.code
    finally:
      flags.FLAGS.unparse_flags()
      for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
      flags.FLAGS.mark_as_parsed()
  return (1, code) if isinstance(code, str) else (code or 0, "")


def refused(*arguments, program="train"):
  """The message of a refusal, checked to be one of ours."""
  code, message = call(program, *arguments)
  assert code == 1
  assert message.startswith("error: ")
  assert "Traceback" not in message
  return message.removeprefix("error: ")
