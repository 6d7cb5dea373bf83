"""The error that names the extra which is not installed."""

import importlib.util
import os

from mmae_jax.types import UsageError


def require() -> None:
  """Raises UsageError where the packages of the extra `language` are missing.

  Called before anything else is done, and well before anything compiles.
  """
  # transformers otherwise says at its import that there is no PyTorch, of which
  # nothing here has any need.
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  for name in ("tunix", "qwix", "tokenizers", "transformers"):
    if importlib.util.find_spec(name) is None:
      raise UsageError(
        f"fine-tuning of language models needs the package {name}; install the"
        ' extra: pip install -e ".[language]"'
      )
