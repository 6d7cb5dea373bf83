"""Two steps of the named objectives on the devices of all processes.

  all_objectives.py byol simclr

Process 0 prints {objective: losses} as JSON; tests/train/test_processes.py
compares them with those of one process.
"""

import json
import sys

import jax
import tiny

from mmae_jax.train import distributed


def losses(names) -> dict[str, list[float]]:
  """Of each objective, on all devices, in float64."""
  result = {}
  with jax.enable_x64(True):
    for name in names:
      run = tiny.Run(tiny.step_config(name), devices=jax.device_count())
      result[name] = [metrics["loss"] for metrics in run.train(2)]
  return result


if __name__ == "__main__":
  distributed.initialise("on")
  seen = losses(sys.argv[1:])
  if jax.process_index() == 0:
    print(json.dumps(seen), flush=True)
