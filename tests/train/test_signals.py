"""SIGTERM and SIGINT in every phase, and a second signal.

One run is stopped in every phase, one after another, and at last finishes:
each stop must leave what the next start needs.
"""

import os
import signal
import time

import pytest
import runs

from mmae_jax.train import digests
from mmae_jax.train.metrics import read_metrics

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def stop_at(hook, signum, workdir):
  """Signals a run where a hook waits: (exit code, what was printed)."""
  blind = ["blind"] if ":" in hook else []
  process = runs.start(workdir, *blind, hook)
  try:
    said = runs.wait_for_hook(process)
    time.sleep(0.2)
    process.send_signal(signum)
    time.sleep(0.2)
    if ":" in hook:
      process.stdin.write("\n")
      process.stdin.flush()
    code, more = runs.finish(process)
  finally:
    process.kill()
  return code, said + more


@pytest.mark.parametrize(
  "signum",
  [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
  ids=lambda s: s.name,
)
def test_a_run_that_is_stopped_in_every_phase_finishes(signum, tmp_path):
  checkpoints = tmp_path / "checkpoints"
  for phase in ("preparation", "compilation"):
    code, said = stop_at(phase, signum, tmp_path)
    assert code == CODES[signum], said
    assert "stopped before training: nothing new to save" in said
    assert digests.steps(checkpoints) == []

  code, said = stop_at("evaluation", signum, tmp_path)
  assert code == CODES[signum], said
  assert "stopped while evaluating: nothing to save yet" in said

  code, said = stop_at("training:7", signum, tmp_path)
  assert code == CODES[signum], said
  assert "step 7 is saved; the same command continues" in said
  assert f"stopped by {signum.name}" in said
  assert digests.steps(checkpoints) == [5, 7]
  assert digests.fault(checkpoints / "7") is None

  code, said = runs.finish(runs.start(tmp_path))
  assert code == 0, said
  assert "continuing from step 7" in said
  ends = [r for r in read_metrics(tmp_path) if r["kind"] == "end"]
  assert [r["status"] for r in ends] == ["stopped", "stopped", "finished"]


def test_a_second_signal_ends_at_once_and_an_echo_does_not(tmp_path):
  process = runs.start(tmp_path, "blind", "training:3")
  runs.wait_for_hook(process)
  # A wrapper passes on what the group has had: not a second signal.
  process.send_signal(signal.SIGINT)
  process.send_signal(signal.SIGINT)
  time.sleep(0.5)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  code, said = runs.finish(process, seconds=5)
  assert code == 130, said
  assert digests.steps(tmp_path / "checkpoints") == []


def test_the_evaluation_that_a_signal_cut_off_is_made_up_for(tmp_path):
  changes = {"evaluation.every_epochs": 0.5}
  process = runs.start(tmp_path, "evaluation", **changes)
  runs.wait_for_hook(process)  # step 0
  process.stdin.write("\n")
  process.stdin.flush()
  runs.wait_for_hook(process)  # step 11
  process.send_signal(signal.SIGTERM)
  code, said = runs.finish(process)
  assert code == 143, said
  assert "stopped while evaluating: step 11 is saved" in said
  code, said = runs.finish(runs.start(tmp_path, **changes))
  assert code == 0, said
  seen = [r["step"] for r in read_metrics(tmp_path) if r["kind"] == "eval"]
  assert seen == [0, 11, 22]


def worker_processes(group):
  """Processes of a process group, zombies left out."""
  found = []
  for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
      with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    except OSError:
      continue
    if int(fields[2]) == group and fields[0] != "Z":
      found.append(int(pid))
  return found


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
@pytest.mark.parametrize("how", ["to all", "kill"])
def test_worker_processes_neither_disturb_nor_survive(how, tmp_path):
  process = runs.start(
    tmp_path,
    "blind",
    "training:4",
    **{"data.workers": 1, "data.cache_gib": 0.0},
  )
  group = process.pid
  runs.wait_for_hook(process)
  assert len(worker_processes(group)) > 1
  if how == "to all":  # as Ctrl-C does
    os.killpg(group, signal.SIGINT)
    time.sleep(0.2)
    process.stdin.write("\n")
    process.stdin.flush()
    code, said = runs.finish(process)
    assert code == 130, said
    assert "step 4 is saved" in said
    assert "Traceback" not in said
  else:
    process.kill()
    process.wait()
  deadline = time.monotonic() + 10
  while worker_processes(group) and time.monotonic() < deadline:
    time.sleep(0.1)
  left = worker_processes(group)
  if left:
    os.killpg(group, signal.SIGKILL)
  assert not left
