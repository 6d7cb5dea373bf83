"""Objectives, one file each, chosen by their module's name."""

from collections.abc import Mapping
import importlib
import pkgutil

from mmae_jax.types import Objective, RunInfo, UsageError

_NOT_METHODS = ("parts",)


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
  try:
    return module.make(encoder, run, **hyperparameters)
  except UsageError:
    raise
  except (TypeError, ValueError) as e:
    known = ", ".join(hyperparameters) or "none"
    raise UsageError(
      f"--config.objective: {name} refuses its hyperparameters ({known}): {e}"
    ) from e
