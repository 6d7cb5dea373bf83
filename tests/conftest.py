"""What must be set before jax is imported, for pytest and all it starts.

The controller of pytest-xdist imports this file first and its workers, and
the programs that the tests start, inherit the environment: one scratch
folder, one compilation cache and one copy of the embedded data for all.
"""

import os
from pathlib import Path
import shutil
import tempfile

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The suite's time is the time that XLA takes to make machine code, so the code
# is left plain: a training step takes a third of the seconds to compile (12
# CPU seconds become 4) and the tiny tests run as fast. Partitioning,
# collectives and donation are as users have them, and no tolerance is wider.
# Where the compiler has a share in the claim, the code is as users have it: in
# a run that is killed or stopped (tests/runs.py), with and without the probe,
# and in float32 on eight devices (tests/train/test_step.py). A flag that is
# given wins: XLA_FLAGS="--xla_backend_optimization_level=3
# --xla_cpu_use_fusion_emitters=true" tests the users' code throughout.
_FLAGS = {
  "--xla_force_host_platform_device_count": "8",
  "--xla_backend_optimization_level": "0",
  "--xla_cpu_use_fusion_emitters": "false",
  # Two workers already fill two cores: to split one program's code gains none.
  "--xla_cpu_parallel_codegen_split_count": "1",
}


def _scratch() -> tuple[Path, bool]:
  """Returns the session's folder and whether this process has made it."""
  if inherited := os.environ.get("MMAE_JAX_TEST_SCRATCH"):
    return Path(inherited), False
  made = Path(tempfile.mkdtemp(prefix="mmae_jax_tests_"))
  os.environ["MMAE_JAX_TEST_SCRATCH"] = str(made)
  return made, True


_SCRATCH, _OWNER = _scratch()

_given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join(
  [_given, *(f"{k}={v}" for k, v in _FLAGS.items() if k not in _given)]
).strip()
_DEFAULTS = {
  "JAX_PLATFORMS": "cpu",
  # A cache that lasts longer than the session would hide what the suite
  # costs; whoever wants one sets the variable. Even the smallest programs are
  # worth keeping: 120 of them took 6.0 s to compile and 1.6 s to load.
  "JAX_COMPILATION_CACHE_DIR": str(_SCRATCH / "jax_cache"),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  "TFDS_DATA_DIR": str(_SCRATCH / "tensorflow_datasets"),
  # NumPy's and PyTorch's own threads: two workers already fill two cores.
  "OMP_NUM_THREADS": "1",
  "OPENBLAS_NUM_THREADS": "1",
  "MKL_NUM_THREADS": "1",
  "MPLBACKEND": "Agg",
}
for _name, _value in _DEFAULTS.items():
  os.environ.setdefault(_name, _value)


def pytest_unconfigure():
  """Removes the scratch folder, in the process that has made it."""
  if _OWNER:
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
  """The repository's root."""
  return ROOT
