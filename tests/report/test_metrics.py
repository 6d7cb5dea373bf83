"""metrics.jsonl survives kills and restarts; the console says what matters."""

import json
import os

from etils import epath
import numpy as np
import pytest

from mmae_jax.train import console, lines as lines_lib
from mmae_jax.train.metrics import Metrics, read_metrics
from mmae_jax.types import UsageError


def _metrics(workdir, **kwargs):
  kwargs = {"total_steps": 10, "tensorboard": False, "terminal": False} | kwargs
  return Metrics(workdir, **kwargs)


def _steps(records, kind="train"):
  return [record["step"] for record in records if record["kind"] == kind]


def test_no_file_is_no_records(tmp_path):
  assert read_metrics(tmp_path) == []


def test_values_are_written_as_strict_json(tmp_path):
  values = {
    "loss": np.float32(0.1),
    "entropy": float("nan"),
    "rank": np.float64("inf"),
    "count": np.int64(3),
    "list": np.array([1.5, 2.5]),
  }
  with _metrics(tmp_path) as metrics:
    metrics.start(0, versions={"jax": "1"})
    metrics.train(1, values, epoch=0.5)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()

  def refuse(constant):
    raise AssertionError(constant)

  record = json.loads(lines[1], parse_constant=refuse)
  assert record["loss"] == 0.1  # not 0.10000000149
  assert record["entropy"] is None and record["rank"] is None
  assert record["count"] == 3 and record["list"] == [1.5, 2.5]
  assert record["epoch"] == 0.5 and record["time"] > 1e9
  assert json.loads(lines[0])["total_steps"] == 10


@pytest.mark.parametrize(
  "torn",
  [b'{"kind": "train", "st', b"{", b'{"kind": "train", "step": 1, "loss": 0.'],
)
def test_a_torn_line_is_ignored_then_cut_off(tmp_path, torn):
  with _metrics(tmp_path) as metrics:
    metrics.start(0)
    metrics.train(1, {"loss": 1.0})
  path = tmp_path / "metrics.jsonl"
  whole = path.read_bytes()
  path.write_bytes(whole + torn)
  assert _steps(read_metrics(tmp_path)) == [1]
  with _metrics(tmp_path):
    pass
  assert path.read_bytes() == whole


def test_a_whole_line_without_its_end_is_kept(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(b'{"kind": "train", "step": 1}')
  with _metrics(tmp_path) as metrics:
    metrics.train(2, {})
  assert _steps(read_metrics(tmp_path)) == [1, 2]


def test_a_broken_line_inside_does_not_hide_the_rest(tmp_path):
  path = tmp_path / "metrics.jsonl"
  good = b'{"kind": "train", "step": %d}\n'
  path.write_bytes(good % 1 + b"\x00\xff\n" + good % 2)
  assert _steps(read_metrics(tmp_path)) == [1, 2]


def test_a_restart_supersedes_what_came_after_its_step(tmp_path):
  for first, last in ((0, 9), (6, 8), (4, 10)):
    with _metrics(tmp_path) as metrics:
      metrics.start(first)
      for step in range(first + 1, last + 1):
        metrics.train(step, {"loss": float(first)})
        if step % 2 == 0:
          metrics.evaluation(step, {"knn_accuracy": 0.5})
  records = read_metrics(tmp_path)
  assert _steps(records) == list(range(1, 11))
  assert _steps(records, "eval") == [2, 4, 6, 8, 10]
  assert _steps(records, "start") == [0, 6, 4]
  losses = [r["loss"] for r in records if r["kind"] == "train"]
  assert losses == [0.0] * 4 + [4.0] * 6


def test_the_last_record_of_a_step_counts(tmp_path):
  with _metrics(tmp_path) as metrics:
    metrics.evaluation(5, {"knn_accuracy": 0.1})
    metrics.evaluation(5, {"knn_accuracy": 0.2})
  (record,) = read_metrics(tmp_path)
  assert record["knn_accuracy"] == 0.2


def test_other_processes_write_nothing(tmp_path):
  folder = tmp_path / "run"
  with _metrics(folder, active=False) as metrics:
    metrics.start(0)
    metrics.train(1, {"loss": 1.0})
    metrics.evaluation(1, {})
    metrics.progress(1)
    metrics.say("")
    metrics.figures(1)
    metrics.end(1, status="finished", seconds=1.0)
  assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(UsageError, match=r"--workdir=.*file/run"):
    _metrics(tmp_path / "file" / "run")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_a_clear_error(tmp_path):
  with _metrics(tmp_path) as metrics:
    metrics.start(0)
    metrics._lines.close()
    metrics._lines._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.raises(UsageError, match=r"--workdir=.*No space left"):
      metrics.train(1, {"loss": 1.0})


def test_an_object_store_gets_whole_objects(tmp_path):
  path = epath.Path(tmp_path / "object")
  path.write_bytes(b'{"kind": "train", "step": 1}\n{"torn')
  lines = lines_lib.RemoteLines(path)
  lines.write(b'{"kind": "train", "step": 2}\n')
  assert path.read_bytes().endswith(b"torn")
  lines.close()
  assert path.read_bytes().count(b"\n") == 2
  assert b"torn" not in path.read_bytes()


def test_tensorboard_has_scalars_and_figures(tmp_path):
  from PIL import Image

  (tmp_path / "figures").mkdir()
  Image.new("RGB", (8, 8)).save(tmp_path / "figures" / "loss.png")
  with _metrics(tmp_path, tensorboard=True) as metrics:
    metrics.start(3)
    metrics.train(4, {"loss": 1.0, "learning_rate": float("nan")})
    metrics.figures(4)
  (events,) = (tmp_path / "tensorboard").glob("events.*")
  data = events.read_bytes()
  assert b"train/loss" in data and b"loss/image" not in data
  assert b"PNG" in data
  assert b"train/learning_rate" not in data


def test_a_log_gets_one_plain_line_per_interval(tmp_path, capsys):
  values = {"images_per_second": 1234.5, "data_wait": 0.021, "loss": 0.5}
  with _metrics(tmp_path) as metrics:
    metrics.start(0)
    metrics.progress(1)
    metrics.train(2, values)
    metrics.evaluation(2, {"knn_accuracy": 0.972, "effective_rank": 21.43})
    metrics.train(3, {"loss": float("nan")})
  first, second, third = capsys.readouterr().out.splitlines()
  assert first.startswith("step 2/10 · 1,23")
  assert "waiting 2% · loss 0.5 · " in first and first.endswith(" left")
  assert second == (
    "step 2/10 · evaluation · knn accuracy 97.2% · effective rank 21.43"
  )
  assert "loss not finite" in third and "\x1b" not in first


def test_a_terminal_gets_a_bar_and_messages(tmp_path, capsys):
  with _metrics(tmp_path, terminal=True) as metrics:
    metrics.say("before [0, 1]")
    metrics.start(4)
    metrics.progress(5)
    metrics.train(6, {"images_per_second": 10.0, "loss": 0.25})
    metrics.say("between")
    metrics.end(6, status="stopped", seconds=1.0)
  out = capsys.readouterr().out
  assert "before [0, 1]" in out and "between" in out
  assert "6/10" in out and "loss 0.25" in out


@pytest.mark.parametrize(
  ("seconds", "text"),
  [
    (7.6, "8 s"),
    (112, "1 min 52 s"),
    (599.7, "10 min"),
    (1600, "27 min"),
    (11220, "3 h 07 min"),
    (400_000, "4 d 15 h"),
  ],
)
def test_durations_read_well(seconds, text):
  assert console.duration(seconds) == text
