"""A run's config as an evaluation on other data or settings reads it."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from mmae_jax import checks, config as config_lib
from mmae_jax.types import UsageError


def override(
  config: Any, data: Mapping[str, Any], settings: Mapping[str, Any]
) -> Any:
  """A copy of a run's config with other data and evaluation settings.

  Args:
    config: the run's.
    data: keys of `config.data`.
    settings: dotted keys of `config.evaluation`, or of the config where they
      begin with "plane.".
  Returns:
    The ConfigDict.
  Raises:
    UsageError: both a folder and a name, an unknown key, another type, a value
      that no evaluation can use.
  """
  config = ml_collections.ConfigDict(config.to_dict())
  if "plane" not in config:  # a run of an earlier version
    config.plane = config_lib.base().plane
  data = {key: value for key, value in data.items() if value is not None}
  if data.get("folder") and data.get("name"):
    raise UsageError(
      f"--data.folder={data['folder']} --data.name={data['name']}: one of them"
    )
  if data.get("folder") or data.get("name"):
    data = {
      "folder": "",
      "train_split": "train",
      "test_split": "test",
      **data,
    }
  changes = {f"data.{key}": value for key, value in data.items()}
  changes |= {
    key if key.startswith("plane.") else f"evaluation.{key}": value
    for key, value in settings.items()
    if value is not None
  }
  for key, value in changes.items():
    try:
      config.update_from_flattened_dict({key: value})
    except (KeyError, TypeError) as error:
      raise UsageError(
        f"--{key.removeprefix('evaluation.')}={value}: {error}"
      ) from error
  checks.check_evaluation(config.evaluation)
  checks.check_ranges(config, only="plane.")
  return config
