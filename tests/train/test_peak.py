"""Peak rates and the allocator."""

import subprocess
import sys

import pytest

from mmae_jax.train import peak


@pytest.mark.parametrize(
  "kind, dtype, expected",
  [
    ("NVIDIA H200", "bfloat16", 989.4e12),
    ("NVIDIA H100 80GB HBM3", "float32", 494.7e12),
    ("NVIDIA H100 PCIe", "bfloat16", 756e12),
    ("NVIDIA A100-SXM4-80GB", "bfloat16", 311.9e12),
    ("Tesla V100-SXM2-16GB", "bfloat16", None),
    ("TPU v5 lite", "bfloat16", 197e12),
    ("TPU v5p", "bfloat16", 459e12),
    ("TPU v6 lite", "bfloat16", 918e12),
    ("cpu", "float32", None),
  ],
)
def test_peak_flops(kind, dtype, expected):
  assert peak.peak_flops(kind, dtype) == expected


def test_keep_freed_memory():
  """The second large block is the first one's memory: no new pages."""
  program = """
import resource
import numpy as np
from mmae_jax.train import memory

kept = memory.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**24)
before = faults()
np.ones(2**24)
print(int(kept), faults() - before)
"""
  done = subprocess.run(
    [sys.executable, "-c", program], check=True, capture_output=True, text=True
  )
  kept, faults = map(int, done.stdout.split())
  if not kept:
    pytest.skip("no glibc")
  assert faults < 1000  # of 32,768 pages
