"""launch/train.py with a hook: driver.py HOOK... -- its arguments.

Hooks, each waits for a line on stdin unless it kills:
  preparation, compilation, evaluation   when the phase begins
  training:K     before the batch of the K-th step of this process
  kill:K         there, SIGKILL to itself
  blind          evaluations, the information plane and reports do nothing
"""

import hashlib
import os
from pathlib import Path
import runpy
import signal
import sys

LAUNCH = Path(__file__).resolve().parents[2] / "launch" / "train.py"
MARK = "### here"


def wait():
  print(MARK, flush=True)
  sys.stdin.readline()


def compile_for_long():
  # Like a compilation: minutes in C without the interpreter's lock, in which
  # no Python handler ever runs.
  print(MARK, flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def before(module, name, hook):
  original = getattr(module, name)

  def hooked(*args, **kwargs):
    hook()
    return original(*args, **kwargs)

  setattr(module, name, hooked)


def at_batch(number, hook):
  from mmae_jax.data import pipeline

  original = pipeline.batches

  def batches(*args, **kwargs):
    for i, batch in enumerate(original(*args, **kwargs), 1):
      if i == number:
        hook()
      yield batch

  pipeline.batches = batches


def main():
  split = sys.argv.index("--")
  hooks, sys.argv = sys.argv[1:split], [str(LAUNCH), *sys.argv[split + 1 :]]
  for hook in hooks:
    name, _, number = hook.partition(":")
    if name == "preparation":
      from mmae_jax.data import source

      before(source, "open_sources", wait)
    elif name == "compilation":
      from mmae_jax.train import step

      before(step, "compile_step", compile_for_long)
    elif name == "evaluation":
      from mmae_jax.evaluate import in_loop

      before(in_loop, "evaluate_state", wait)
    elif name == "training":
      at_batch(int(number), wait)
    elif name == "kill":
      at_batch(int(number), lambda: os.kill(os.getpid(), signal.SIGKILL))
    elif name == "blind":
      from mmae_jax.train import diagnostics

      diagnostics.Diagnostics.evaluate = lambda self, *args, **kwargs: {}
      diagnostics.Diagnostics.report = lambda self, *args, **kwargs: None
      diagnostics.Diagnostics.plane = lambda self, *args, **kwargs: {}
  runpy.run_path(str(LAUNCH), run_name="__main__")


if __name__ == "__main__":
  main()
