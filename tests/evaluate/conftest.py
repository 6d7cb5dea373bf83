"""A run that was never trained, and images in memory."""

import types

from evaluate.tiny_run import Images, tiny_config, tiny_encoder
import jax
import numpy as np
import pytest

from mmae_jax.train import checkpoint, state as state_lib


@pytest.fixture(scope="session", params=[1, 8], ids=["1 device", "8 devices"])
def mesh(request):
  """Meshes of one and of eight devices."""
  return state_lib.make_mesh(devices=jax.devices()[: request.param])


@pytest.fixture(scope="session")
def coloured():
  """80 images, four colours by label, in random order, and test ones."""
  rng = np.random.default_rng(0)
  labels = rng.permutation(np.arange(100) % 4)
  colours = np.array(
    [[200, 40, 40], [40, 200, 40], [40, 40, 200], [180, 180, 180]]
  )
  noise = rng.integers(-30, 30, (100, 8, 8, 3))
  images = (colours[labels][:, None, None] + noise).astype(np.uint8)
  return (
    Images(images[:80], labels[:80], 4),
    Images(images[80:], labels[80:], 4),
  )


@pytest.fixture(scope="session")
def run(tmp_path_factory):
  """A folder as a run leaves it, with a checkpoint of step 7."""
  folder = tmp_path_factory.mktemp("run")
  config = tiny_config()
  encoder, params = tiny_encoder(config)
  state = state_lib.TrainState(
    step=np.int32(7),
    params={"network": {"encoder": params, "decoder": {}}, "probe": {}},
    model_state={},
    opt_state={},
    carry={},
    key=jax.random.key(0),
  )
  checkpoints = checkpoint.Checkpoints(folder / "checkpoints", keep=1)
  checkpoints.save(state, config, 7)
  checkpoints.wait()
  checkpoints.close()
  line = '{"kind": "eval", "step": 7, "time": 0, "knn_accuracy": 0.5}\n'
  (folder / "metrics.jsonl").write_text(line)
  return types.SimpleNamespace(
    folder=folder, config=config, encoder=encoder, params=params
  )
