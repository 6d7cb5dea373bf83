"""report.html is whole, small, escaped, and never broken by what is missing."""

import json
import subprocess
import sys

from etils import epath
import numpy as np
from PIL import Image
import pytest
from report.fake_run import CONFIG, eval_values, make_run, write_artifacts
from report.pages import read

from mmae_jax.report import Section, plots, quantities, write_report
from mmae_jax.report.run import read_run
from mmae_jax.train.metrics import Metrics


@pytest.mark.parametrize("total", [10, 10_000])
def test_a_run_of_any_length_gives_a_whole_page(tmp_path, total):
  workdir = make_run(tmp_path, total, plane=True)
  path = write_report(workdir)
  assert path == epath.Path(workdir) / "report.html"
  text = read(path)
  for said in (
    "M-MAE on digits finished",
    "k-NN accuracy 97.5 % from 91.0 % at step 0",
    "Linear accuracy 96.0 %",
    "Effective rank 26.9",
    f"Steps {total:,} of {total:,} · epoch 100",
    "Weight of the regulariser 0.00125",
    "64 dimensions: at most 4.16 nats",
    "64 shown agree",
    "412,310",
    "3.1 GFLOP",
    "commit 0f3a9c1d2b7e",
    "jax 0.10.2",
    "--config.data.name",
    "Rejected files: no file was rejected.",
    "The branches a (first mask) and b (second mask) of the same images at"
    " every step (2,048; 512 for the sample side of order 1).",
    "Alarms: none was raised.",
  ):
    assert said in text, said
  pngs = {png.stem for png in (workdir / "figures").glob("*.png")}
  assert pngs >= {
    *("loss", "reconstruction", "regulariser", "weighted_regulariser"),
    *("eval_accuracy", "train_accuracy", "effective_rank", "matrix_entropy"),
    *("spectrum", "reconstructions", "neighbours", "learning_rate"),
    *("grad_norm", "images_per_second", "data_wait"),
    *("plane_sample", "plane_feature", "plane_spectrum", "plane_alignment"),
    *("plane_sample_1", "plane_feature_2", "plane_er_bound"),
  }
  for png in (workdir / "figures").glob("*.png"):
    Image.open(png).verify()
  assert not list(workdir.glob("*.partial"))


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
  text = read(write_report(tmp_path))
  assert "unknown method on unknown data no records" in text
  assert "Losses and their parts: no losses were recorded." in text
  assert "Configuration: config.json is missing." in text


def test_an_unlabelled_run_leaves_out_what_needs_labels(tmp_path):
  text = read(write_report(make_run(tmp_path, 10, labelled=False)))
  assert "Accuracy: no accuracies, since there are no labels." in text
  assert "k-NN" not in text and "agree" not in text
  assert "First of each group" in text  # neighbours need no labels


def test_one_point_is_enough(tmp_path):
  with Metrics(
    tmp_path, total_steps=9, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0)
    metrics.train(1, {"loss": 0.0, "my_metric": 2.0})
    metrics.evaluation(1, eval_values(0.5))
  write_artifacts(tmp_path, 1)
  text = read(write_report(tmp_path, config=CONFIG))
  assert "no end recorded" in text and "Steps 1 of 9" in text
  assert (tmp_path / "figures" / "my_metric.png").exists()


def test_values_that_are_not_finite_are_gaps_and_are_told(tmp_path):
  with Metrics(
    tmp_path, total_steps=4, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0)
    for step, loss in enumerate([1.0, 2.0, float("nan")], start=1):
      metrics.train(step, {"loss": loss, "grad_norm": float("inf")})
    metrics.end(3, status="failed", seconds=1.0)
  text = read(write_report(tmp_path, config=CONFIG))
  assert "Values not finite : Loss 1." in text
  assert "Loss not finite" in text and "failed" in text


def test_alarms_stand_at_the_top(tmp_path):
  record = {"quantity": "grad_norm", "value": 9.0, "threshold": 1.25}
  said = {"cause": "a <bad> batch", "advice": "--config.optimizer.clip_norm=1"}
  with Metrics(
    tmp_path, total_steps=9, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0)
    for name in ("gradient_spike", "loss_spike"):  # two at one step
      metrics.record("alarm", 7, {"alarm": name, **record, **said})
    metrics.train(8, {"loss": 1.0})
    metrics.end(8, status="alarm", seconds=1.0)
  text = read(write_report(tmp_path, config=CONFIG))
  assert "2 in all." in text and text.count("a <bad> batch") == 2
  assert "7 gradient spike grad norm 9 1.25" in text
  assert text.index("2 in all.") < text.index("--config.optimizer.clip_norm=1")
  assert text.index("clip_norm=1") < text.rindex("Losses and their parts")


def test_a_single_point_of_the_plane_with_gaps_is_drawn(tmp_path):
  values = {
    **{"sample_entropy_1_a": 1.0, "sample_mutual_information_1": float("nan")},
    **{"feature_entropy_1_a": 1.0, "feature_mutual_information_1": 0.5},
  }
  with Metrics(
    tmp_path, total_steps=9, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0)
    metrics.record("plane", 0, values)
  text = read(write_report(tmp_path, config=CONFIG))
  assert "Two branches, a and b, of the same images" in text
  assert "could not be drawn" not in text


def test_restarts_are_shown_and_superseded_points_are_not(tmp_path):
  workdir = make_run(tmp_path, 10, status="stopped", artifacts=False)
  with Metrics(
    workdir, total_steps=10, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(4)
    metrics.train(5, {"loss": 7.0})
    metrics.end(5, status="stopped", seconds=60.0)
  with open(workdir / "metrics.jsonl", "ab") as file:
    file.write(b'{"kind": "train", "st')
  for step in (0, 4, 8):
    write_artifacts(workdir, step)
  run = read_run(workdir)
  assert run.restarts() == [4]
  assert [step for step, _ in run.artifacts("spectrum")] == [0, 4]
  assert run.series("train", "loss").steps.tolist() == [1, 2, 3, 4, 5]
  assert run.series("train", "loss").last == 7.0
  text = read(write_report(workdir))
  assert "1 min 02 s in 2 processes" in text
  assert "4 to 5 1 min 00 s stopped" in text
  assert "at step 4" in text and "at step 8" not in text


def test_everything_is_escaped(tmp_path):
  evil = "<script>alert('x')</script>\"&"
  config = json.loads(json.dumps(CONFIG))
  config["data"]["folder"] = evil
  config["objective"]["name"] = evil
  config[evil] = evil
  (tmp_path / "rejected.jsonl").write_text(
    json.dumps({"file": evil, "reason": evil}) + "\n{torn\n"
  )
  with Metrics(
    tmp_path, total_steps=1, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0, versions={evil: evil}, commit=evil, devices=evil)
    metrics.train(1, {"loss": 1.0, evil: 1.0, "images_per_second": 1.0})
    metrics.end(1, status=evil, seconds=1.0)
  path = write_report(tmp_path, config=config)
  page = path.read_text()
  assert page.count("<script") == 1 and "alert('x')" not in page
  assert "1 in all" in read(path)
  assert all("<" not in png.name for png in (tmp_path / "figures").glob("*"))


def test_many_rejected_files_are_counted(tmp_path):
  entries = [
    {"file": f"/images/{i}.png", "reason": "truncated" if i % 2 else "empty"}
    for i in range(120)
  ]
  lines = "\n".join(json.dumps(entry) for entry in entries)
  (tmp_path / "rejected.jsonl").write_text(lines)
  text = read(write_report(tmp_path, config=CONFIG))
  assert "120 in all: 60 x empty; 60 x truncated." in text
  assert "/images/49.png" in text and "/images/50.png" not in text


def test_photographs_stay_small(tmp_path):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (40, 224, 224, 3), np.uint8)
  for step in (0, 10):
    write_artifacts(tmp_path, step, images=images)
  read(write_report(tmp_path, config=CONFIG))


def test_a_broken_artifact_costs_its_own_section_only(tmp_path):
  workdir = make_run(tmp_path, 10)
  (workdir / "artifacts" / "neighbours-10.npz").write_bytes(b"PK torn")
  (workdir / "artifacts" / "reconstruction-latest.npz").touch()
  text = read(write_report(workdir))
  assert "Neighbours: could not be drawn (" in text
  assert "what the decoder made" in text


def test_sections_can_be_added(tmp_path):
  def plane(run):
    return Section("Information plane", f"<{len(run.records)}>", {"p": b"png"})

  text = read(write_report(tmp_path, sections=[plane]))
  assert "Information plane <0>" in text  # plain text is escaped too
  assert (tmp_path / "figures" / "p.png").read_bytes() == b"png"


def test_the_envelope_keeps_means_and_extremes():
  steps = np.arange(10_000)
  values = np.sin(steps / 500.0)
  values[1234], values[5000:5050] = 9.0, np.nan
  centre, mean, lowest, highest = plots.envelope(steps, values, bins=400)
  assert len(centre) == len(mean) == 400
  assert np.nanmax(highest) == 9.0 and np.isnan(mean).sum() == 2
  assert np.nanmin(lowest) == np.nanmin(values)
  np.testing.assert_allclose(np.nansum(mean * 25), np.nansum(values), rtol=1e-9)
  assert np.all(np.diff(centre) > 0)


def test_matplotlib_is_imported_late_and_left_as_it_was():
  program = """
import sys
import mmae_jax.report
assert "matplotlib" not in sys.modules
import matplotlib
before = dict(matplotlib.rcParams)
import numpy as np
from mmae_jax.report import plots
n = np.arange(3.0)
plots.curves("a", [plots.Line("a", n, n, "#000000")])
assert "matplotlib.pyplot" not in sys.modules
assert dict(matplotlib.rcParams) == before
"""
  subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
  ("written", "expected"),
  [
    (quantities.readable(0.9721, "%"), "97.2 %"),
    (quantities.readable(12345.6, "images/s"), "12,346 images/s"),
    (quantities.readable(3.2941, "nats"), "3.294 nats"),
    (quantities.readable(None, "nats"), "not finite"),
    (quantities.compact(0.00125), "0.00125"),
    (quantities.compact(2000.0, largest=10_000.0), "2k"),
    (quantities.compact(5200.0), "5,200"),
    (quantities.scaled(3.1e9, "FLOP"), "3.1 GFLOP"),
    (quantities.scaled(84_000_000, "B", base=1024), "80.1 MiB"),
    (quantities.quantity("regulariser", objective="mmae").unit, "nats"),
    (quantities.quantity("regulariser", objective="umae").unit, ""),
    (quantities.quantity("my_lab/gain").label, "My lab / gain"),
  ],
)
def test_quantities_are_written_for_people(written, expected):
  assert written == expected
