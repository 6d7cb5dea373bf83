"""The sweep, with a program in place of launch/train.py that only pretends."""

import csv
import importlib.util
import json
import signal
import statistics
import subprocess
import sys
import time

import pytest

from mmae_jax.report import comparison

# Writes what a run writes. The config's name says what happens: "slow" waits
# for a signal, "broken" fails, and a second start continues and finishes.
FAKE_TRAIN = """
import json, pathlib, signal, sys, time

flags = dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[1:])
workdir = pathlib.Path(flags["workdir"])
seed = int(flags["config.seed"])
with open(workdir / "calls", "a") as file:
  print(json.dumps(flags), file=file)

def record(kind, step, **values):
  record = {"kind": kind, "step": step, "time": time.time(), **values}
  with open(workdir / "metrics.jsonl", "a") as file:
    print(json.dumps(record), file=file)

def stop(number, frame):
  record("end", 1, status="stopped", seconds=1.0)
  sys.exit(128 + number)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
first = not (workdir / "metrics.jsonl").exists()
record("start", 0, commit="abc", devices="1 cpu")
if "broken" in flags["config"]:
  sys.exit("error: broken on purpose")
if "slow" in flags["config"] and first:
  print("waiting", flush=True)
  time.sleep(60)
for step in (1, 2):
  record("train", step, loss=1.0 / step + seed, images_per_second=100.0)
record("eval", 0, knn_accuracy=0.25)
record("eval", 1, knn_accuracy=0.5)
if "plane" in flags["config"]:
  for step in (0, 2):
    values = dict(sample_joint_entropy_2=1.5, effective_rank_a=3.0, rows=64)
    values["sample_mutual_information_2"] = step + seed / 8
    record("plane", step, epoch=step / 2, dimensions=seed + 8, **values)
record("eval", 2, knn_accuracy=0.9 + seed / 100, effective_rank=3.0)
record("end", 2, status="finished", seconds=2.0)
"""


def load(root):
  spec = importlib.util.spec_from_file_location(
    "sweep", root / "launch" / "sweep.py"
  )
  module = importlib.util.module_from_spec(spec)
  sys.modules["sweep"] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def folder(root, tmp_path, monkeypatch):
  """A folder with configs, the pretended program and `sweep`."""
  (tmp_path / "train.py").write_text(FAKE_TRAIN)
  (tmp_path / "configs").mkdir()
  for name in ("good", "other", "plane", "slow", "broken"):
    (tmp_path / "configs" / f"{name}.py").write_text("")
  monkeypatch.chdir(tmp_path)
  module = load(root)

  def sweep(*flags):
    return module.main(flags, train=tmp_path / "train.py")

  return tmp_path, sweep


def calls(workdir):
  lines = (workdir / "calls").read_text().splitlines()
  return [json.loads(line) for line in lines]


def table(out):
  return json.loads((out / "table.json").read_text())


def test_product_and_table(folder, capsys):
  path, sweep = folder
  flags = ("--configs=configs/good.py,configs/good.py:arg", "--seeds=0,1,4")
  assert sweep(*flags, "--out=out") == 0
  printed = capsys.readouterr().out
  assert (path / "out/table.md").read_text() in printed
  assert len(calls(path / "out/good-seed4")) == 1
  (flags,) = calls(path / "out/good-arg-seed4")
  assert flags == {
    "config": "configs/good.py:arg",
    "config.seed": "4",
    "workdir": "out/good-arg-seed4",
  }
  result = table(path / "out")
  assert [line["method"] for line in result["methods"]] == ["good", "good-arg"]
  line = result["methods"][0]
  accuracies = [0.9, 0.91, 0.94]
  assert line["knn_accuracy"]["n"] == line["finished"] == 3
  assert line["knn_accuracy"]["mean"] == pytest.approx(
    statistics.mean(accuracies)
  )
  assert line["knn_accuracy"]["deviation"] == pytest.approx(
    statistics.stdev(accuracies)
  )
  assert line["loss"]["mean"] == pytest.approx(0.5 + 5 / 3)
  assert line["seconds"]["mean"] == pytest.approx(2)
  assert "linear_accuracy" not in line
  assert result["commits"] == ["abc"]
  assert result["command"].startswith("python launch/sweep.py --configs=")
  assert "| good | 3 | 91.67 ± 2.08 | 25.00 ± 0.00 | 3.00 ± 0.00 |" in printed
  assert "linear" not in printed and "planes.png" not in printed
  with open(path / "out/table.csv") as file:
    rows = list(csv.DictReader(file))
  assert [row["seed"] for row in rows] == ["0", "1", "4"] * 2


def test_the_information_plane_is_told_and_drawn(folder, capsys):
  path, sweep = folder
  flags = ("--configs=configs/good.py,configs/plane.py", "--seeds=0,1")
  assert sweep(*flags, "--out=out") == 0
  printed = capsys.readouterr().out
  assert "out/planes.png: information planes" in printed
  assert "out/planes.csv" in printed
  assert (path / "out/planes.png").read_bytes().startswith(b"\x89PNG")
  _, line = table(path / "out")["methods"]
  assert line["sample_mutual_information_2"]["mean"] == pytest.approx(2.0625)
  assert "| 2.062 ± 0.088 | 1.500 ± 0.000 | 3.00 ± 0.00 |" in printed
  assert "dimensions of a branch: 8 and 9" in printed
  assert "compare at equal ones" in printed


def test_values_of_one_config_alone(folder):
  path, sweep = folder
  entry = "configs/good.py:arg+config.objective.gamma=0.5+config.epochs=2"
  flags = f"--configs={entry},configs/good.py", "--set=config.batch_size=8"
  assert sweep(*flags, "--seeds=0", "--out=out") == 0
  methods = ["good-arg-gamma=0.5-epochs=2", "good"]
  assert [line["method"] for line in table(path / "out")["methods"]] == methods
  own, plain = (calls(path / f"out/{name}-seed0")[0] for name in methods)
  assert own["config"] == "configs/good.py:arg"
  assert own["config.objective.gamma"] == "0.5" and own["config.epochs"] == "2"
  assert own["config.batch_size"] == plain["config.batch_size"] == "8"
  assert "config.epochs" not in plain


def test_finished_runs_are_skipped_and_seeds_can_be_added(folder):
  path, sweep = folder
  assert sweep("--configs=configs/good.py", "--seeds=0", "--out=out") == 0
  assert sweep("--configs=configs/good.py", "--seeds=0,1", "--out=out") == 0
  assert len(calls(path / "out/good-seed0")) == 1
  assert table(path / "out")["methods"][0]["finished"] == 2


def test_a_single_seed_has_no_spread(folder):
  path, sweep = folder
  assert sweep("--configs=configs/good.py", "--seeds=3", "--out=out") == 0
  assert (
    "| good | 1 | 93.00 | 25.00 | 3.00 |" in (path / "out/table.md").read_text()
  )


def test_settings_are_passed_and_kept(folder, capsys):
  path, sweep = folder
  flags = ("--configs=configs/good.py", "--seeds=0", "--out=out")
  settings = "config.epochs=2,config.views.scale=(0.2,1.0)"
  assert sweep(*flags, f"--set={settings}", "--set", "config.a=b") == 0
  (given,) = calls(path / "out/good-seed0")
  assert given["config.epochs"] == "2"
  assert given["config.views.scale"] == "(0.2,1.0)"
  assert given["config.a"] == "b"
  assert sweep(*flags, "--set=config.epochs=3") == 1
  assert "--out=out: its runs had --set" in capsys.readouterr().err


def test_a_failing_run_does_not_stop_the_others(folder, capsys):
  path, sweep = folder
  flags = ("--configs=configs/broken.py,configs/good.py", "--seeds=0,1")
  assert sweep(*flags, "--out=out", "--jobs=2") == 1
  text = (path / "out/table.md").read_text()
  assert "| broken | 0 of 2 | – |" in text
  assert "- out/broken-seed0: failed (exit 1)" in text
  assert "| good | 2 |" in text
  assert "broken on purpose" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_continues(folder, root, number):
  path, sweep = folder
  flags = ["--configs=configs/slow.py,configs/good.py", "--seeds=0"]
  program = (
    "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import sweep;"
    "sys.exit(sweep.main(sys.argv[2:], train=pathlib.Path('train.py')))"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", program, root / "launch", *flags, "--out=out"],
    stderr=subprocess.PIPE,
    text=True,
  )
  log = path / "out/slow-seed0/train.log"
  deadline = time.monotonic() + 60
  while not (log.exists() and "waiting" in log.read_text()):
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.05)
  process.send_signal(number)
  assert "the same command continues" in process.communicate(timeout=30)[1]
  assert process.returncode == 128 + number
  assert not (path / "out/good-seed0").exists()
  assert not comparison.is_finished(path / "out/slow-seed0")

  assert sweep(*flags, "--out=out") == 0
  assert len(calls(path / "out/slow-seed0")) == 2
  # Both processes count: one second until the signal, two afterwards.
  assert table(path / "out")["methods"][0]["seconds"]["mean"] == 3


def test_a_folder_in_use_is_left_alone(folder):
  path, sweep = folder
  workdir = path / "out/good-seed0"
  workdir.mkdir(parents=True)
  hold = (
    "import fcntl, sys; file = open('out/good-seed0/sweep.lock', 'w');"
    "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True);"
    "sys.stdin.read()"
  )
  with subprocess.Popen(
    [sys.executable, "-c", hold],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as holder:
    assert holder.stdout.readline() == "held\n"
    flags = ("--configs=configs/good.py,configs/other.py", "--seeds=0")
    assert sweep(*flags, "--out=out") == 1
    holder.stdin.close()
  assert not (workdir / "calls").exists()
  assert table(path / "out")["methods"][1]["finished"] == 1
  assert sweep(*flags, "--out=out") == 0


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--configs=configs/none.py"], "--configs=configs/none.py: no such"),
    (["--configs="], "--configs: names no config"),
    (["--configs=configs/good.py,configs/good.py"], "has the name good as an"),
    (["--configs=configs/good.py", "--seeds=0,0"], "--seeds: needs different"),
    (["--configs=configs/good.py", "--seeds=0,x"], "--seeds: needs different"),
    (["--configs=configs/good.py", "--seeds=-1"], "--seeds: needs different"),
    (["--configs=configs/good.py", "--jobs=0"], "--jobs=0: needs at least 1"),
    (["--configs=configs/good.py", "--set=epochs=1"], "--set epochs=1 is not"),
    (["--configs=configs/good.py+epochs=1"], "epochs=1 is not of the form"),
    (
      ["--configs=configs/good.py+config.seed=1"],
      "seeds are given by --seeds",
    ),
    (
      ["--configs=configs/good.py", "--set=config.seed=1"],
      "seeds are given by --seeds",
    ),
    (["--configs=configs/good.py", "--out=train.py"], "--out=train.py: "),
  ],
)
def test_mistakes_are_one_line(folder, capsys, flags, message):
  _, sweep = folder
  assert sweep(*flags) == 1
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert message in error
