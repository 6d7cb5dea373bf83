"""Objectives, one file each, chosen by their module's name."""

from collections.abc import Mapping
import difflib
import importlib
import inspect
import pkgutil
import re
import traceback

from mmae_jax.types import Objective, RunInfo, UsageError

_NOT_METHODS = (
  *("clustering", "er", "multi_crop"),
  *("networks", "parts", "two_view"),
)


def available() -> list[str]:
  """Names of the objectives that mmae_jax carries."""
  return sorted(
    module.name
    for module in pkgutil.iter_modules(__path__)
    if module.name not in _NOT_METHODS
  )


def select(config: Mapping, encoder, run: RunInfo) -> Objective:
  """Builds the objective that a config names.

  Args:
    config: `config.objective`: `name` and the hyperparameters of its `make`.
      A name with a dot ("my_lab.my_objective") is imported as it stands.
    encoder: the backbone, a linen module.
    run: facts of this run.
  Returns:
    The Objective.
  Raises:
    UsageError: unknown method, unknown or missing hyperparameter, or a value
      that the method refuses.
  """
  hyperparameters = dict(config)
  name = hyperparameters.pop("name", "")
  try:
    if "." in name:
      module = importlib.import_module(name)
    elif name in available():
      module = importlib.import_module(f"{__name__}.{name}")
    else:
      raise UsageError(
        f"--config.objective.name={name!r}: no such objective; available: "
        + ", ".join(available())
        + ", or the dotted name of a module of your own"
      )
  except ModuleNotFoundError as e:
    raise UsageError(
      f"--config.objective.name={name}: {e}; is its folder on PYTHONPATH?"
    ) from e
  if not hasattr(module, "make"):
    raise UsageError(
      f"--config.objective.name={name}: {module.__file__} has no function"
      " make(encoder, run, **hyperparameters)"
    )
  try:
    return module.make(encoder, run, **hyperparameters)
  except UsageError:
    raise
  except (TypeError, ValueError) as e:
    raise UsageError(_refusal(name, module.make, hyperparameters, e)) from e


def _refusal(name, make, hyperparameters, error):
  """Names the hyperparameter that the error is about, where it tells."""
  unexpected = re.search("unexpected keyword argument '(.+?)'", str(error))
  if unexpected and unexpected[1] in hyperparameters:
    key = unexpected[1]
    known = [k for k in inspect.signature(make).parameters if k != key]
    near = difflib.get_close_matches(key, known, n=1)
    said = f"{name} has no such hyperparameter"
    said += f"; did you mean {near[0]}?" if near else ""
  else:
    words = re.findall(r"\w+", str(error))
    key = next((word for word in words if word in hyperparameters), "")
    said = f"{name} refuses it: {error}"
  if not key:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"--config.objective: {said} ({frame.filename}, line {frame.lineno})"
  return f"--config.objective.{key}={hyperparameters[key]}: {said}"
