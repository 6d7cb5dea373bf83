"""Two processes with four devices each: whole runs, and every objective."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import sys
import time

import all_objectives
import numpy as np
import pytest
import runs

from mmae_jax import objectives
from mmae_jax.train import digests
from mmae_jax.train.metrics import read_metrics

STEPS = 12
CHANGES = {"epochs": STEPS / 22, "plane.every": 0.5}


def members(count=2):
  """What each process of a cluster has in its environment."""
  with contextlib.closing(socket.socket()) as s:
    s.bind(("localhost", 0))
    port = s.getsockname()[1]
  return [
    {
      "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
      "JAX_NUM_PROCESSES": str(count),
      "JAX_PROCESS_ID": str(i),
    }
    for i in range(count)
  ]


def start(workdir, *hooks, count=2, first_arguments=(), **changes):
  """The processes of one run; they find each other as on a cluster."""
  return [
    runs.start(
      workdir,
      *hooks,
      devices=8 // count,
      plain=True,
      env=env,
      arguments=["--distributed=on", *(first_arguments if i == 0 else ())],
      **{**CHANGES, **changes},
    )
    for i, env in enumerate(members(count))
  ]


def finish(processes, *, seconds=90):
  """[(exit code, what was printed)]; kills what does not end."""
  try:
    return [runs.finish(p, seconds=seconds) for p in processes]
  finally:
    for p in processes:
      p.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The same run by one process with eight devices."""
  workdir = tmp_path_factory.mktemp("alone") / "run"
  code, said = runs.finish(
    runs.start(workdir, devices=8, plain=True, **CHANGES)
  )
  assert code == 0, said
  return workdir


def test_two_processes_equal_one_also_after_a_stop(alone, tmp_path):
  processes = start(tmp_path, "blind", "training:5")
  for p in processes:
    runs.wait_for_hook(p)
  processes[1].send_signal(signal.SIGTERM)  # only one of them is told
  time.sleep(1)
  for p in processes:
    p.stdin.write("\n")
    p.stdin.flush()
  for code, said in finish(processes):
    assert code == 143, said
    assert "stopped by SIGTERM" in said
  (step,) = digests.steps(tmp_path / "checkpoints")[-1:]
  assert step >= 5
  assert digests.fault(tmp_path / "checkpoints" / str(step)) is None

  for code, said in finish(start(tmp_path)):
    assert code == 0, said
  got, expected = runs.losses(tmp_path), runs.losses(alone)
  assert sorted(got) == sorted(expected) == list(range(1, STEPS + 1))
  np.testing.assert_allclose(
    [got[i] for i in sorted(got)],
    [expected[i] for i in sorted(expected)],
    rtol=2e-5,
  )
  # One set of files, written once.
  assert {p.name for p in tmp_path.iterdir()} == {
    p.name for p in alone.iterdir()
  }
  kinds = [r["kind"] for r in read_metrics(tmp_path)]
  assert kinds.count("start") == kinds.count("end") == 2
  for kind, name in (
    ("eval", "effective_rank"),
    ("plane", "effective_rank_a"),
    ("plane", "feature_joint_entropy_1"),
  ):
    final, other = (
      [r for r in read_metrics(workdir) if r["kind"] == kind][-1]
      for workdir in (tmp_path, alone)
    )
    assert final["step"] == other["step"] == STEPS
    np.testing.assert_allclose(final[name], other[name], rtol=1e-3)


# A queue that is split over the devices of both. All objectives take as long as
# a tenth of the suite.
FEW = ["swav"]


@pytest.mark.parametrize(
  "names", [FEW, pytest.param(objectives.available(), marks=pytest.mark.slow)]
)
def test_objectives_are_the_same_in_two_processes(names):
  script = pathlib.Path(all_objectives.__file__)
  path = os.pathsep.join(map(str, (script.parent, runs.ROOT)))
  processes = [
    runs.process(
      [sys.executable, str(script), *names],
      devices=4,
      plain=True,
      env={**env, "PYTHONPATH": path},
    )
    for env in members()
  ]
  expected = all_objectives.losses(
    names
  )  # on the eight devices of this process
  (code, said), (other, _) = finish(processes, seconds=200)
  assert (code, other) == (0, 0), said
  got = json.loads(said.splitlines()[-1])
  assert got.keys() == expected.keys()
  for name in expected:
    np.testing.assert_allclose(got[name], expected[name], rtol=1e-9)


@pytest.mark.slow
def test_one_process_continues_what_two_began(alone, tmp_path):
  processes = start(tmp_path, "blind", "kill:9")
  for code, said in finish(processes):
    assert code != 0, said
  assert digests.steps(tmp_path / "checkpoints") == [5]
  code, said = runs.finish(
    runs.start(tmp_path, "blind", devices=2, plain=True, **CHANGES)
  )
  assert code == 0, said
  got, expected = runs.losses(tmp_path), runs.losses(alone)
  np.testing.assert_allclose(
    [got[i] for i in sorted(got)],
    [expected[i] for i in sorted(expected)],
    rtol=2e-5,
  )


def test_a_signal_to_one_stops_all_in_an_evaluation(tmp_path):
  processes = start(tmp_path, "evaluation")
  for p in processes:
    runs.wait_for_hook(p)
  processes[1].send_signal(signal.SIGINT)
  for code, said in finish(processes, seconds=20):
    assert code == 130, said


@pytest.mark.parametrize("case", ["occupied", "config", "one alone"])
def test_an_error_ends_all(case, tmp_path):
  workdir = tmp_path
  if case == "occupied":
    workdir = tmp_path / "file"
    workdir.write_text("")
    expected = "cannot be written"
    processes = start(workdir)
  elif case == "config":
    expected = "not divisible by 8 devices"
    processes = start(workdir, batch_size=60)
  else:
    # Only process 0 gets it wrong; the other would wait for it forever.
    expected = "batch_size=100000"
    processes = start(workdir, first_arguments=["--config.batch_size=100000"])
  results = finish(processes, seconds=45)
  assert [code for code, _ in results] == [1, 1], results
  said = results[0][1] + results[1][1]
  assert expected in said and "Traceback" not in said
