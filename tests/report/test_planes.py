"""The figure of a sweep: right numbers, small, and never without its runs."""

import csv
import math

import numpy as np
from PIL import Image
import pytest
from report.fake_run import plane_values

from mmae_jax.report import bounds, planes
from mmae_jax.report.comparison import Row, write_table
from mmae_jax.train.metrics import Metrics


def _run(folder, method, seed, *, steps=(0, 10, 20), factor=1.0, plane=True):
  """A finished run; its plane is that of the fake runs times a factor."""
  workdir = folder / f"{method}-seed{seed}"
  with Metrics(
    workdir, total_steps=20, tensorboard=False, terminal=False
  ) as metrics:
    metrics.start(0)
    metrics.evaluation(0, {"knn_accuracy": 0.5}, epoch=0.0)
    for step in steps if plane else ():
      values = {
        name: factor * value if isinstance(value, float) else value
        for name, value in plane_values(step / 20).items()
      }
      metrics.record("plane", step, values, epoch=step / 10)
    metrics.end(20, status="finished", seconds=1.0)
  return Row(method, seed, workdir, "finished")


def _points(steps, seed=0, factor=1.0):
  return [
    planes.Point("simclr", seed, step, step / 10, "er_bound", factor * step)
    for step in steps
  ]


def test_a_curve_is_mean_and_range_over_the_steps_of_all_seeds():
  points = [
    *_points([0, 10, 20]),
    *_points([20, 10], seed=1, factor=2.0),
    *_points([5, 10, 20], seed=2, factor=6.0),
  ]
  line = planes.curve(points)
  np.testing.assert_allclose(line.epochs, [1.0, 2.0])
  np.testing.assert_allclose(line.mean, [30.0, 60.0])
  np.testing.assert_allclose(line.least, [10.0, 20.0])
  np.testing.assert_allclose(line.largest, [60.0, 120.0])


def test_seeds_without_a_common_step_give_an_empty_curve():
  line = planes.curve([*_points([0]), *_points([10], seed=1)])
  assert len(line.epochs) == len(line.mean) == len(line.largest) == 0


@pytest.mark.parametrize("methods", [2, 9, 22, 36])
def test_every_method_has_its_place_in_the_legend(methods, monkeypatch):
  """In the picture, however many there are."""
  from matplotlib.figure import Figure

  seen = []
  monkeypatch.setattr(planes.canvas, "png", lambda figure: seen.append(figure))
  monkeypatch.setattr(planes, "_in_few_colours", lambda png: b"")
  points = [
    planes.Point(f"method-{i}", 0, step, step / 10, name, float(i))
    for i in range(methods)
    for step in (0, 10)
    for name in ("er_entropy", "er_bound")
  ]
  planes._draw(points, {"er_entropy": "H", "er_bound": "bound"}, "note", {})
  (figure,) = seen
  assert isinstance(figure, Figure)
  (legend,) = [a.get_legend() for a in figure.axes if a.get_legend()]
  box = legend.get_window_extent(figure.canvas.get_renderer())
  width, height = figure.canvas.get_width_height()
  assert len(legend.get_texts()) == methods
  assert box.x0 >= 0 and box.y0 >= 0
  assert box.x1 <= width and box.y1 <= height


@pytest.mark.parametrize(
  ("methods", "expected"),
  [
    (
      ["simclr-fashion_mnist", "matrix_ssl-fashion_mnist-gamma=0.5"],
      ["SimCLR", "Matrix-SSL, gamma=0.5"],
    ),
    (["mec", "mmae-cifar10"], ["MEC", "M-MAE, cifar10"]),
    (
      ["mec-order=1-weight=1e-5", "mec-order=1-weight=1e-6", "my_own"],
      ["MEC, order=1 weight=1e-5", "MEC, order=1 weight=1e-6", "my_own"],
    ),
    (
      ["umae-weight=1e-5", "umae-weight=1e-6"],
      ["U-MAE, weight=1e-5", "U-MAE, weight=1e-6"],
    ),
  ],
)
def test_the_legend_names_methods_and_what_tells_them_apart(methods, expected):
  assert planes.labels(methods) == dict(zip(methods, expected, strict=True))


def test_the_figure_is_small_and_its_numbers_stand_beside_it(tmp_path):
  # Ten methods, three seeds: the largest sweep that one would look at.
  rows = [
    _run(tmp_path, f"method{i}", seed, factor=1 + 0.1 * i + 0.02 * seed)
    for i in range(10)
    for seed in range(3)
  ]
  rows.append(Row("method0", 3, tmp_path / "method0-seed0", "stopped"))
  path = planes.write_planes(tmp_path, rows)
  assert path == tmp_path / "planes.png"
  assert path.stat().st_size < 200 * 1024
  with Image.open(path) as picture:
    picture.load()
    assert picture.width > 1000
  with open(tmp_path / "planes.csv") as file:
    lines = list(csv.DictReader(file))
  assert list(lines[0]) == list(planes.Point._fields)
  assert len(lines) == 30 * 3 * len(planes.PANELS)  # not the stopped one
  assert {line["quantity"] for line in lines} == set(planes.PANELS)
  (value,) = [
    float(line["value"])
    for line in lines
    if (line["method"], line["seed"], line["step"]) == ("method1", "2", "20")
    and line["quantity"] == "er_bound"
  ]
  assert value == pytest.approx(1.14 * 3.5 * (1 - math.exp(-4)), rel=1e-4)


def test_what_is_missing_leaves_gaps_and_no_figure_at_all(tmp_path):
  plain = _run(tmp_path, "plain", 0, plane=False)
  assert planes.write_planes(tmp_path, [plain]) is None
  assert not list(tmp_path.glob("planes.*"))
  broken = _run(tmp_path, "broken", 0, factor=math.nan)
  assert planes.write_planes(tmp_path, [plain, broken]) is None
  single = _run(tmp_path, "single", 0, steps=(20,))
  assert planes.write_planes(tmp_path, [plain, broken, single])


def test_the_table_tells_of_the_branches(tmp_path):
  rows = [
    _run(tmp_path, "one", 0),
    _run(tmp_path, "one", 1, factor=2.0),
    _run(tmp_path, "none", 0, plane=False),
  ]
  text = write_table(tmp_path, "command", rows)
  title = text.splitlines()[0]
  assert title == (
    "| method | n | k-NN, % | k-NN untrained, % | mutual information, nats |"
    " joint entropy, nats | rank of branch a | wall time, s |"
  )
  last = plane_values(1.0)["sample_joint_entropy_2"]
  assert f"| {1.5 * last:.3f} ± {last * 0.5**0.5:.3f} |" in text
  assert "| none | 1 | 50.00 | 50.00 | – | – | – | 1 |" in text
  assert "(images: 2,048; dimensions of a branch: 64)" in text
  assert "compare at equal ones" not in text


def test_entropy_and_reconstruction_in_one_page(tmp_path):
  rows = [
    _run(tmp_path, "dino-fashion_mnist", 0),
    _run(tmp_path, "byol-fashion_mnist", 0, factor=2.0),
  ]
  path = bounds.write_bounds(
    tmp_path, rows, command="sweep --of=<two>", table="| a | b |"
  )
  page = path.read_text()
  assert path.name == "entropy.html" and "data:image/png;base64," in page
  assert "sweep --of=&lt;two&gt;" in page and "| a | b |" in page
  with open(tmp_path / "entropy.csv") as file:
    lines = list(csv.DictReader(file))
  wanted = {"er_entropy", "er_uniform_entropy", "er_bound", "er_ceiling"}
  assert wanted | {"knn_accuracy"} <= {line["quantity"] for line in lines}
  empty = _run(tmp_path, "plain", 0, plane=False)
  assert bounds.write_bounds(
    tmp_path, [empty], command="", table=""
  )  # k-NN alone
  gone = Row("gone", 0, tmp_path / "gone", "failed")
  nothing = {"command": "", "table": ""}
  assert bounds.write_bounds(tmp_path, [gone], **nothing) is None
