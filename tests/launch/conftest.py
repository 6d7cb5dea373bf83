"""What the tests of launch/bench.py share."""

import importlib
import sys

import pytest


@pytest.fixture
def bench(root, monkeypatch):
  """launch/bench.py as it finds itself when started: its folder comes first."""
  monkeypatch.syspath_prepend(str(root / "launch"))
  monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  yield importlib.import_module("bench")
  for name in [n for n in sys.modules if n.partition("_")[0] == "bench"]:
    sys.modules.pop(name)
