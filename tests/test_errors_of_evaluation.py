"""Mistakes in reading a run, in evaluating it and in preparing data."""

import types

from evaluate.tiny_run import tiny_config, tiny_encoder
import jax
import numpy as np
from programs import refused
import pytest

from mmae_jax import load_encoder
from mmae_jax.train import checkpoint
from mmae_jax.types import TrainState, UsageError

DIGITS = "--config=configs/mmae.py"


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch, root):
  monkeypatch.chdir(root)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A folder as a run leaves it; the encoder was never trained."""
  folder = tmp_path_factory.mktemp("run")
  config = tiny_config()
  _, params = tiny_encoder(config)
  state = TrainState(
    step=np.int32(1),
    params={"network": {"encoder": params, "decoder": {}}, "probe": {}},
    model_state={},
    opt_state={},
    carry={},
    key=jax.random.key(0),
  )
  save(folder, state, config)
  return types.SimpleNamespace(folder=folder, config=config, state=state)


def save(folder, state, config):
  """Leaves a checkpoint of step 1 in a folder."""
  checkpoints = checkpoint.Checkpoints(folder / "checkpoints", keep=1)
  checkpoints.save(state, config, 1)
  checkpoints.wait()
  checkpoints.close()


def test_an_encoder_that_is_not_the_configs(run, tmp_path):
  config = run.config.copy_and_resolve_references()
  config.encoder.width = 12
  save(tmp_path, run.state, config)
  message = "not a checkpoint of this architecture"
  with pytest.raises(UsageError, match=message):
    load_encoder(tmp_path)
  said = refused("knn", f"--workdir={tmp_path}", program="evaluate")
  assert f"--workdir={tmp_path}/checkpoints/1: {message}" in said


@pytest.mark.parametrize(
  ("images", "message"),
  [
    (np.zeros((2, 8, 8, 3), np.float32), "float32"),
    (np.zeros((8, 8, 3), np.uint8), "8, 8, 3"),
    (np.zeros((2, 8, 8, 1), np.uint8), "2, 8, 8, 1"),
    (np.zeros((2, 3, 8, 8), np.uint8), "2, 3, 8, 8"),
    (np.zeros((2, 0, 8, 3), np.uint8), "2, 0, 8, 3"),
    ("images.png", "str"),
    (None, "None"),
    ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)], "8, 8"),
  ],
)
def test_images_of_another_kind(run, images, message):
  encode, _ = load_encoder(run.folder)
  with pytest.raises(UsageError, match="uint8") as error:
    encode(images)
  assert message in str(error.value)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"pool": "max"}, "max"),
    ({"layer": 9}, "9"),
    ({"step": 4}, "no checkpoint of step 4"),
    ({"evaluated": "teacher"}, "keeps no teacher"),
  ],
)
def test_load_encoder(run, arguments, message):
  with pytest.raises(UsageError, match=message):
    load_encoder(run.folder, **arguments)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "the following arguments are required: kind, --workdir (see --help)"),
    (["knn"], "the following arguments are required: --workdir"),
    (["kn", "--workdir=x"], "invalid choice: 'kn'"),
    (["knn", "--workdir=/no/such"], "--workdir=/no/such: not a run"),
    (["knn", "--step=abc"], "--step: invalid int value: 'abc'"),
    (["knn", "--wrkdir=x"], "--workdir"),
    (["knn", "--workdir=RUN", "--step=4"], "no checkpoint of step 4"),
    (["knn", "--workdir=RUN", "--layer=9"], "--layer"),
    (["knn", "--workdir=RUN", "--knn.k=0"], "--knn.k=0"),
    (["linear", "--workdir=RUN", "--linear.c=-1"], "--linear.c=-1"),
    (["knn", "--workdir=RUN", "--data.folder=/no/such"], "/no/such: no such"),
    (["knn", "--workdir=RUN", "--data.name=cifar11"], "nearest: cifar10"),
    (["knn", "--workdir=RUN", "--checkpoint=teacher"], "keeps no teacher"),
    (["information", "--workdir=/no/such"], "--workdir=/no/such: not a run"),
    (
      ["information", "--workdir=RUN", "--checkpoints=4"],
      "--checkpoints=4: must be all, last, or the step of a kept checkpoint: 1",
    ),
    (["information", "--workdir=RUN", "--checkpoints=some"], "some: must be"),
    (["information", "--workdir=RUN", "--step=1"], "takes --checkpoints"),
    (
      ["information", "--workdir=RUN", "--plane.size=1"],
      "--plane.size=1: mu",
    ),
    (["knn", "--workdir=RUN", "--checkpoints=all"], "knn takes --step"),
  ],
  ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_evaluate(run, flags, message):
  flags = [flag.replace("RUN", str(run.folder)) for flag in flags]
  assert message in refused(*flags, program="evaluate")


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "give one of --name, --folder and --idx"),
    (["--name=a", "--folder=b"], "give one of --name, --folder and --idx"),
    (["--nmae=a"], "flag 'nmae'. Did you mean: name"),
    (["cifar10"], "cifar10: unexpected argument"),
    (["--threads=many"], "--threads=many: "),
    (["--name=cifar11"], "--name=cifar11: tfds has no dataset of this name"),
    (["--folder=/no/such"], "/no/such: no such folder"),
    (["--idx=/no/such"], "--idx needs --out=FOLDER"),
    (["--idx=/no/such", "--out=out"], "--idx=/no/such: "),
  ],
  ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_prepare_data(flags, message):
  assert message in refused(*flags, program="prepare_data")


# Flags for a network that is made quickly.
SMALL = [
  *("--config.encoder.width=8", "--config.encoder.depth=1"),
  *("--config.objective.decoder_width=8", "--config.objective.decoder_depth=1"),
  "--config.objective.decoder_heads=2",
]


def test_weights_of_another_architecture(run, tmp_path):
  flags = [DIGITS, *SMALL, f"--workdir={tmp_path}/run"]
  said = refused(*flags, f"--config.init_from={run.folder}")
  assert f"--config.init_from={run.folder}: the encoder" in said
  assert "--config.encoder" in said
  nowhere = "--config.init_from=/no/such"
  said = refused(DIGITS, *SMALL, nowhere, f"--workdir={tmp_path}/other")
  assert "--config.init_from: /no/such: not a run" in said
