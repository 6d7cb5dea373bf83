"""What is done with converted weights: evaluated, trained on, sent out."""

import json

from interop import foreign
from interop.files import quietly, save
import jax
import numpy as np
from programs import call
import pytest
import tiny

from mmae_jax import load_encoder
from mmae_jax.interop import checkpoints, importing, reading
from mmae_jax.train import checkpoint, warm_start

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def mae(tmp_path_factory):
  """A folder of ours with official MAE's tensors."""
  folder = tmp_path_factory.mktemp("mae")
  save(folder / "mae.pth", foreign.mae())
  code, message = call(
    "convert",
    f"--from={folder}/mae.pth",
    f"--to={folder}/ours",
    "--heads=2",
    "--decoder_heads=2",
  )
  assert (code, message) == (0, "")
  return folder / "ours"


def test_it_is_evaluated_like_a_run(mae, tmp_path):
  encode, info = load_encoder(mae)
  assert (info["method"], info["step"]) == ("mae", 0)
  images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
  assert encode(images).shape == (4, foreign.WIDTH)
  code, message = call(
    "evaluate", "knn", f"--workdir={mae}", "--data.name=digits"
  )
  assert (code, message) == (0, "")
  (line,) = (mae / "evaluations.jsonl").read_text().splitlines()
  assert 0 < json.loads(line)["accuracy"] <= 1


def test_training_goes_on_from_it(mae):
  """With the decoder, and with another one; positions stay fixed."""
  network = checkpoints.read(mae)
  config = tiny.shrink(tiny.load_config("mmae"))
  config.encoder.update(
    width=foreign.WIDTH, depth=2, heads=2, patch_size=4, mlp_ratio=2.0
  )
  for width, said in (
    (8, "weights of decoder, encoder taken from"),
    (12, "decoder begin anew"),
  ):
    config.objective.decoder_width = width
    run = tiny.Run(config, compiled=False)
    config.init_from = str(mae)
    state, note = warm_start.initialise_from(config, run.state, run.shardings)
    assert said in note
    taken = jax.device_get(state.params["network"])
    jax.tree.map(
      np.testing.assert_array_equal,
      taken["encoder"],
      network.tree("student", "params")["encoder"],
    )


def run_of(name, folder):
  """A checkpoint of a run of ours that was not trained."""
  config = tiny.shrink(tiny.load_config(name))
  if name == "moco_v2":
    config.objective.queue_size = 128
  run = tiny.Run(config, compiled=False)
  saved = checkpoint.Checkpoints(folder / "checkpoints", keep=1)
  saved.save(run.state, config, 1)
  saved.wait()
  saved.close()
  return jax.device_get(run.state.replace(key=None))


@pytest.mark.parametrize(
  ("name", "fmt"),
  [
    ("moco_v2", "moco"),
    ("moco_v3", "moco_v3"),
    ("matrix_ssl", "matrix_ssl"),
    ("barlow_twins", "barlow_twins"),
    ("vicreg", "vicreg"),
    ("spectral_contrastive", "spectral_contrastive"),
    ("dino", "dino"),
    ("swav", "swav"),
    ("deepcluster", "deepcluster"),
    ("byol", "solo_learn"),
    ("byol", "lightly"),
    ("mmae", "mmae"),
  ],
)
def test_a_run_goes_out_with_its_heads(name, fmt, tmp_path):
  """Networks, teacher and what the method keeps, in the authors' names."""
  state = run_of(name, tmp_path / "run")
  quietly(tmp_path / "run", tmp_path / "out.pth", name=fmt)
  force = "mmae" if fmt == "mmae" else fmt
  file = reading.read(tmp_path / "out.pth")
  if fmt in ("solo_learn", "lightly", "mmae", "barlow_twins"):
    # What their files have besides: a probe, an untrained head, a norm.
    draw = foreign.Draw()
    file.tensors.update(
      {
        "solo_learn": draw.linear("classifier", 32, 5),
        "lightly": {},
        "mmae": draw.norm("fc_norm", 8, running=False),
        "barlow_twins": draw.norm("bn", 16, affine=False),
      }[fmt]
    )
  again = importing.from_file(
    file, name=force, options={"heads": 2, "decoder_heads": 2}
  )
  expected = state.params["network"]
  got = again.tree("student", "params")
  assert set(expected) - {"predictor"} <= set(got) | {"prototypes"}
  for part in got:
    jax.tree.map(np.testing.assert_array_equal, got[part], expected[part])
  if "teacher" in state.carry:
    jax.tree.map(
      np.testing.assert_array_equal,
      again.tree("teacher", "params"),
      state.carry["teacher"]["params"],
    )
  kept = again.tree("carry", "carry")
  for key, x in kept.items():
    jax.tree.map(np.testing.assert_array_equal, x, state.carry[key])
  if name in ("moco_v2", "dino", "deepcluster"):
    assert kept


def test_the_program(tmp_path, capsys):
  save(tmp_path / "a.pth", foreign.vit_timm())
  flags = (f"--from={tmp_path}/a.pth", f"--to={tmp_path}/b")
  code, message = call("convert", *flags, "--strict")
  assert code == 1 and message.startswith("error: --strict: ")
  assert not (tmp_path / "b").exists()
  code, message = call("convert", *flags, "--mean=0.5")
  assert code == 1 and "three numbers" in message
  code, message = call("convert", *flags, "--format=timm")
  assert code == 1 and "--format=timm: unknown, one of hf_vit_mae" in message
  code, message = call("convert", *flags, "--image_size=9")
  assert code == 1 and "--image_size=9: not a multiple of 4" in message
  capsys.readouterr()
  assert call("convert", *flags, "--mean=0.5,0.5,0.5") == (0, "")
  said = capsys.readouterr().out
  assert "format vit_timm" in said and "kept beside the network: head" in said
  assert checkpoints.read(tmp_path / "b").config.views["global"].mean == (
    0.5,
    0.5,
    0.5,
  )
