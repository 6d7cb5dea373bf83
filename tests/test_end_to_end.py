"""Every config from its file to its report, shrunk; and what users do with it.

A config is found by its file, its arguments by the file's `ARGUMENTS`: a new
method is run here as soon as it has a config.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from programs import call
import pytest
import runs
import tfds_fakes
from tiny import NAMES, TWO_VIEW, load_config, load_module, shrink, use_vit

from mmae_jax import checks, config as config_lib, load_encoder, objectives
from mmae_jax.data import photometry as photometry_lib, pipeline
from mmae_jax.models import build_encoder, resnet
from mmae_jax.report import comparison
from mmae_jax.train import (
  begin,
  loop,
  optimizer as optimizer_lib,
  state as state_lib,
)
from mmae_jax.train.metrics import read_metrics

ARGUMENTS = [
  (name, argument) for name in NAMES for argument in load_module(name).ARGUMENTS
]
EXAMPLES = 1_281_167
# It has a teacher and running statistics.
EVALUATED = "byol"
# Of the methods that compare views, one whose views are passes of their own and
# one with a queue run on a ResNet; the others on a ViT, which compiles in half
# of the time.
ON_RESNET = ("byol", "moco_v2")
# A run of each kind is split over the devices; tests/objectives compares every
# objective on one and eight. One device compiles, and saves, much sooner.
ON_ALL_DEVICES = ("mmae", EVALUATED)
# The same as `shrink`, for launch/train.py.
SMALL = [
  *("--config.encoder.width=8", "--config.encoder.depth=1"),
  *("--config.encoder.heads=2", "--config.batch_size=32"),
  *("--config.objective.decoder_width=8", "--config.objective.decoder_depth=1"),
  *("--config.objective.decoder_heads=2", "--config.epochs=1"),
  *("--config.optimizer.warmup_epochs=0", "--config.evaluation.every_epochs=1"),
  *("--config.checkpoint.every_epochs=1", "--config.logging.log_every_steps=2"),
  "--config.plane.every=0.5",
]


def give_data(config):
  """Names some data where the config leaves that to the user."""
  if not config.data.name:
    config.data.folder = "/my/images"
  return config


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_every_argument_is_traced(name, argument, monkeypatch):
  """What `loop.run` does up to the loss of the first step, by shapes alone.

  Of blocks and stages that repeat, one stands for all; two stages, since the
  second has a stride. Gradients and updates have their turn in the runs.
  """
  config = give_data(load_config(name, argument))
  checks.check(config)
  if config.encoder.name == "vit":
    config.encoder.depth = 1
  for depth, (_, bottleneck) in resnet.STAGES.items():
    monkeypatch.setitem(resnet.STAGES, depth, ((1, 1), bottleneck))
  if "decoder_depth" in config.objective:
    config.objective.decoder_depth = 1
  mesh = state_lib.make_mesh(**config.mesh)
  state_lib.check_batch(config.batch_size, config.microbatches, mesh)
  encoder = build_encoder(config.encoder, config.views["global"].size)
  info = begin.run_info(config, EXAMPLES)
  objective = objectives.select(config.objective, encoder, info)
  begin.check_views(config, objective)
  schedule = optimizer_lib.learning_rate(
    config.optimizer,
    info,
    epochs=config.epochs,
    first_step=objective.learns_from,
  )
  optimizer = optimizer_lib.build(
    config, objective, schedule, total_steps=info.total_steps
  )
  photometry = photometry_lib.make_photometry(config)
  views = jax.eval_shape(
    photometry, jax.random.key(0), pipeline.batch_shapes(config)
  )

  def first_loss(key, views):
    state = state_lib.initialise(key, objective, optimizer, views)
    loss, output = objective.loss(key, state.params["network"], state, views)
    return state, loss, output

  state, loss, output = jax.eval_shape(first_loss, jax.random.key(0), views)
  assert jax.eval_shape(schedule, 0).shape == loss.shape == ()
  assert all(value.shape == () for value in output.metrics.values())
  for kept in ("model_state", "carry"):
    before, after = getattr(state, kept), getattr(output, kept)
    assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, after)


def check_run(folder, *, labelled=True, linear=True, dim=8):
  """What a finished run with features of `dim` leaves behind."""
  records = read_metrics(folder)
  kinds = [record["kind"] for record in records]
  assert kinds[0] == "start" and kinds[-1] == "end"
  assert records[-1]["status"] == "finished"
  assert comparison.is_finished(folder)
  train = [record for record in records if record["kind"] == "train"]
  evaluations = [record for record in records if record["kind"] == "eval"]
  plane = [record for record in records if record["kind"] == "plane"]
  assert train[-1]["step"] == evaluations[-1]["step"] == records[-1]["step"]
  assert plane[0]["step"] == 0 and plane[-1]["step"] == train[-1]["step"]
  for record in train + evaluations + plane:
    numbers = [v for v in record.values() if isinstance(v, int | float)]
    assert np.isfinite(numbers).all(), record
  last = evaluations[-1]
  assert 1 <= last["effective_rank"] <= dim
  assert ("knn_accuracy" in last) == labelled
  assert ("linear_accuracy" in last) == (labelled and linear)
  assert ("probe_accuracy" in train[-1]) == labelled
  for name in ("knn_accuracy", "linear_accuracy"):
    assert 0 <= last.get(name, 0) <= 1
  config = config_lib.from_json((folder / "config.json").read_text())
  assert (folder / "checkpoints" / str(last["step"])).is_dir()
  assert len(list((folder / "checkpoints").iterdir())) <= config.checkpoint.keep
  artifacts = {path.name for path in (folder / "artifacts").iterdir()}
  for name in ("spectrum", "plane"):
    assert {f"{name}-0.npz", f"{name}-{last['step']}.npz"} <= artifacts
  assert list((folder / "tensorboard").iterdir())
  assert list((folder / "figures").glob("*.png"))
  page = (folder / "report.html").read_text()
  assert config.name in page and "data:image" in page
  return records


def feature_dim(config):
  """Entries of a feature of what `shrink` leaves."""
  return 32 if config.encoder.name == "resnet" else 8


@pytest.fixture(scope="module", params=NAMES)
def run(request, tmp_path_factory):
  """A finished run of the no-argument form of each config."""
  folder = tmp_path_factory.mktemp(request.param)
  config = shrink(load_config(request.param))
  if request.param in TWO_VIEW and request.param not in ON_RESNET:
    use_vit(config)
  config.evaluation.max_train_images = 400
  with pytest.MonkeyPatch.context() as patch:
    if request.param not in ON_ALL_DEVICES:
      runs.on_one_device(patch)
    loop.run(config, folder)
  return folder


def test_the_embedded_data(run):
  """Each no-argument form, and its encoder as a function."""
  encode, info = load_encoder(run)
  dim = info["dim"]
  assert dim == feature_dim(info["config"])
  records = check_run(run, dim=dim)
  last = next(r for r in records[::-1] if r["kind"] == "eval")
  assert info["step"] == last["step"]
  assert info["accuracy"]["linear_accuracy"] == last["linear_accuracy"]
  images = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), np.uint8)
  features = encode(images)
  assert features.shape == (5, dim) and features.dtype == np.float32
  np.testing.assert_allclose(encode(images[2:4]), features[2:4], atol=1e-5)
  if info["method"] == EVALUATED:
    check_evaluations(run, dim)


def check_evaluations(run, dim):
  """What launch/evaluate.py says about a run, which it leaves as it was."""
  before = {
    path: path.read_bytes()
    for path in run.rglob("*")
    if path.is_file() and path.parent.name != ".lock"
  }
  kinds = ["knn", "linear", "features", "information"]
  for kind in kinds:
    assert call("evaluate", kind, f"--workdir={run}") == (0, "")
  evaluations = [
    json.loads(line)
    for line in (run / "evaluations.jsonl").read_text().splitlines()
  ]
  checkpoints = len(list((run / "checkpoints").iterdir()))
  kinds += (checkpoints - 1) * ["information"]
  assert [e["kind"] for e in evaluations] == kinds
  assert all(0 <= e["accuracy"] <= 1 for e in evaluations[:2])
  (written,) = run.glob("features-*.npz")
  with np.load(written) as arrays:
    assert arrays["train"].shape == (1437, dim)
    assert arrays["test_labels"].shape == (360,)
  # No evaluation writes into the run's own files.
  assert before == {path: path.read_bytes() for path in before}


def make_images(folder, classes, *, count=60, size=(40, 36), file="{:03d}.png"):
  """A folder of images in each class ("" is none), coloured by class."""
  rng = np.random.default_rng(0)
  for i, name in enumerate(classes):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for j in range(count):
      pixels = rng.integers(0, 120, (*size, 3)) + 60 * (i % 3)
      path = folder / name / file.format(j)
      Image.fromarray(pixels.astype(np.uint8)).save(path)
  return folder


def train_own_images(tmp_path, capsys, *flags):
  """Runs launch/train.py on tmp_path/images; returns (folder, what it said)."""
  code, message = call(
    "train",
    "--config=configs/mmae.py:vit_ti8",
    f"--config.data.folder={tmp_path}/images",
    f"--config.data.dir={tmp_path}/tfds",
    f"--workdir={tmp_path}/run",
    "--config.views.global.size=16",
    *SMALL,
    *flags,
  )
  assert (code, message) == (0, "")
  return tmp_path / "run", capsys.readouterr().out


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch, root):
  monkeypatch.chdir(root)


def test_own_images_with_classes(tmp_path, capsys):
  images = make_images(tmp_path / "images", ["cat", "dog"])
  for i in (3, 7):
    path = images / "cat" / f"{i:03d}.png"
    path.write_bytes(path.read_bytes()[:60])
  (images / "dog" / "notes.txt").write_text("not an image")
  folder, said = train_own_images(
    tmp_path,
    capsys,
    "--config.data.max_rejected=0.05",
    "--config.data.holdout=0.2",
  )
  check_run(folder)
  assert "left out:" not in said
  rejected = [
    json.loads(line)
    for line in (folder / "rejected.jsonl").read_text().splitlines()
  ]
  assert {r["file"] for r in rejected} == {"cat/003.png", "cat/007.png"}
  assert all(r["reason"] for r in rejected)
  assert "cat/003.png" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
  ("classes", "reason"),
  [
    ([""], "the images have no labels"),
    pytest.param(
      *(["one"], "all images are of one class"), marks=pytest.mark.slow
    ),
  ],
)
def test_own_images_without_labels(tmp_path, capsys, classes, reason):
  make_images(tmp_path / "images", classes)
  folder, said = train_own_images(tmp_path, capsys, "--config.data.holdout=0.2")
  check_run(folder, labelled=False)
  lines = [line for line in said.splitlines() if "are left out" in line]
  assert lines == [
    f"{reason}: the probe, k-NN and linear accuracy are left out"
  ]


def test_an_objective_of_ones_own(tmp_path, root, monkeypatch):
  """The README's example, word for word: one file and one config."""
  blocks = re.findall(
    r"```python\n# (my_\S+\.py)\n(.*?)```",
    (root / "README.md").read_text(),
    re.DOTALL,
  )
  assert [name for name, _ in blocks] == [
    "my_lab/my_objective.py",
    "my_config.py",
  ]
  for name, text in blocks:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
  monkeypatch.syspath_prepend(tmp_path)  # PYTHONPATH=.
  monkeypatch.chdir(tmp_path)
  assert call("train", "--config=my_config.py", *SMALL) == (0, "")
  (folder,) = (tmp_path / "runs").iterdir()
  records = check_run(folder)
  assert "entropy" in next(r for r in records if r["kind"] == "train")
  for module in [name for name in sys.modules if name.startswith("my_lab")]:
    del sys.modules[module]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_every_argument_runs(name, argument, tmp_path):
  """Every recipe, on data of its kind, with little of everything."""
  config = shrink(load_config(name, argument))
  config.batch_size = 16
  if config.objective.get("entropy_scope"):
    config.objective.entropy_scope = 8
  config.data.dir = str(tmp_path / "tfds")
  config.data.workers = min(config.data.workers, 1)
  config.evaluation.linear.microbatches = 1
  view = config.views["global"]
  if view.size > 32:
    view.size = 2 * config.encoder.patch_size  # 32 for a ResNet
    if config.views.get("local"):
      config.views.local.size = config.encoder.patch_size
  if config.data.name:
    tfds_fakes.prepare(config.data.name, config.data.dir)
  else:
    grey = make_images(tmp_path / "images", map(str, range(10)), count=12)
    config.data.folder = str(grey)
  loop.run(config, tmp_path / "run")
  check_run(
    tmp_path / "run",
    linear=config.evaluation.linear.form == "logistic",
    dim=feature_dim(config),
  )


@pytest.mark.slow
def test_the_sweep(tmp_path):
  """Two configs, two seeds: four runs and a table."""
  code, message = call(
    "sweep",
    "--configs=configs/mae.py,configs/mmae.py",
    "--seeds=0,1",
    f"--out={tmp_path}/sweep",
    *(f"--set={flag.removeprefix('--')}" for flag in SMALL),
  )
  assert (code, message) == (0, "")
  table = json.loads((tmp_path / "sweep/table.json").read_text())
  assert [line["method"] for line in table["methods"]] == ["mae", "mmae"]
  for line in table["methods"]:
    assert line["finished"] == line["knn_accuracy"]["n"] == 2
  for name in ("mae", "mmae"):
    for seed in (0, 1):
      check_run(tmp_path / "sweep" / f"{name}-seed{seed}")
