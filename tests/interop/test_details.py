"""What a file does not say, what ours cannot compute, what is told."""

import json
import pickle

from interop import foreign
from interop.files import assert_same_tensors, in_torch, quietly, save
import numpy as np
import pytest

from mmae_jax.interop import checkpoints, contents, importing, reading, writing
from mmae_jax.types import UsageError

torch = pytest.importorskip("torch")
HEADS = {"heads": 2, "decoder_heads": 2}


def convert(source, target, **kwargs):
  network, lines = quietly(source, target, **kwargs)
  return network, "\n".join(lines)


def from_names(named, **kwargs):
  return importing.from_file(contents.File(named), **kwargs)


# --- Bits --------------------------------------------------------------------
@pytest.mark.parametrize("case", ["float16", "other decoder", "transposed"])
def test_what_is_kept_comes_back_whatever_its_strides(case, tmp_path):
  named = in_torch(foreign.mae()["model"])
  if case == "float16":
    named = {n: x.half() for n, x in named.items()}
  elif case == "other decoder":
    named["decoder_pos_embed"] = torch.randn(1, 5, 8)
  else:
    named["head.weight"] = torch.randn(foreign.WIDTH, 3).T
    named["head.bias"] = torch.randn(3)
  torch.save({"model": named}, tmp_path / "a.pth")
  network, said = convert(tmp_path / "a.pth", tmp_path / "b", options=HEADS)
  uses_decoder = "decoder" in network.tree("student", "params")
  assert uses_decoder == (case != "other decoder")
  assert ("its positions are not MAE's" in said) != uses_decoder
  assert not network.config.encoder.learned_positions
  convert(tmp_path / "b", tmp_path / "c.pth")
  assert_same_tensors(torch.load(tmp_path / "c.pth")["model"], named)


def test_a_safetensors_file_goes_out_with_the_formats_wrapper(tmp_path):
  from safetensors.numpy import load_file, save_file

  save_file(foreign.mae()["model"], tmp_path / "a.safetensors")
  convert(tmp_path / "a.safetensors", tmp_path / "b", options=HEADS)
  convert(tmp_path / "b", tmp_path / "c.pth")
  assert set(torch.load(tmp_path / "c.pth")) == {"model"}
  save(tmp_path / "d.pth", foreign.mae())
  convert(tmp_path / "d.pth", tmp_path / "e", options=HEADS)
  convert(tmp_path / "e", tmp_path / "f.safetensors")
  assert (
    load_file(tmp_path / "f.safetensors").keys()
    == foreign.mae()["model"].keys()
  )


def test_further_tensors_of_a_file(tmp_path):
  """Another dictionary and a tensor beside it; what is no tensor is told."""
  content = foreign.mae() | {
    "model_ema": {"norm.weight": np.ones(3, np.float32)},
    "queue": np.arange(4),
    "optimizer": {"state": {0: {"step": np.ones(1)}}},
  }
  source = save(tmp_path / "a.pth", content)
  _, said = convert(source, tmp_path / "b", options=HEADS)
  assert "left out, no plain tensors: epoch, optimizer" in said
  assert "kept beside the network: model_ema:norm.weight, /:queue" in said
  convert(tmp_path / "b", tmp_path / "c.pth")
  back = torch.load(tmp_path / "c.pth")
  assert back.keys() == {"model", "model_ema", "queue"}
  assert torch.equal(back["queue"], torch.arange(4))
  assert torch.equal(back["model_ema"]["norm.weight"], torch.ones(3))


# --- Functions that ours are not ---------------------------------------------
@pytest.mark.parametrize(
  ("name", "shape"),
  [
    ("blocks.0.gamma_1", (16,)),
    ("blocks.0.attn.q_bias", (16,)),
    ("blocks.1.attn.relative_position_bias_table", (9, 2)),
    ("blocks.1.mlp.norm.weight", (32,)),
  ],
)
def test_parts_of_a_block_that_ours_has_not(name, shape):
  named = foreign.vit_timm() | {name: np.ones(shape, np.float32)}
  with pytest.raises(UsageError, match=f"{name} is a part of the network"):
    from_names(named)


@pytest.mark.parametrize("name", ["layer1.0.se.fc1.weight", "conv1.bias"])
def test_parts_of_a_resnet_that_ours_has_not(name):
  named = foreign.resnet_torchvision() | {name: np.ones(4, np.float32)}
  with pytest.raises(UsageError, match=f"{name} is a part of the network"):
    from_names(named)


@pytest.mark.parametrize("shape", [(16, 12, 2, 2), (16, 3, 2, 8)])
def test_other_patches(shape):
  named = foreign.vit_timm()
  named["patch_embed.proj.weight"] = np.ones(shape, np.float32)
  with pytest.raises(UsageError, match="patch_embed"):
    from_names(named)


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    ({"model_type": "vit", "hidden_act": "relu"}, "hidden_act 'relu'"),
    ({"model_type": "vit", "num_channels": 1}, "num_channels 1"),
    ({"model_type": "dinov2"}, "model_type is 'dinov2'"),
    ({"model_type": ["vit"]}, "model_type is"),
    ({"model_type": "vit", "num_attention_heads": [3]}, "fit together"),
    ({"model_type": "vit", "layer_norm_eps": "x"}, "fit together"),
  ],
)
def test_settings_of_hugging_face_that_ours_has_not(settings, said, tmp_path):
  save(tmp_path / "a.pth", foreign.mae())
  convert(tmp_path / "a.pth", tmp_path / "b", options=HEADS)
  convert(tmp_path / "b", tmp_path / "hf", name="hf_vit")
  file = reading.read(tmp_path / "hf")
  with pytest.raises(UsageError, match=said):
    importing.from_file(file._replace(settings=settings))


def test_defaults_of_hugging_face(tmp_path):
  """Where config.json leaves a field out, it is transformers' default."""
  save(tmp_path / "a.pth", foreign.mae())
  convert(tmp_path / "a.pth", tmp_path / "b", options=HEADS)
  convert(tmp_path / "b", tmp_path / "hf", name="hf_vit_mae")
  file = reading.read(tmp_path / "hf")
  with pytest.raises(UsageError, match="does not divide"):  # 12 heads of 16
    importing.from_file(file._replace(settings={"model_type": "vit_mae"}))
  settings = {"model_type": "vit_mae", "num_attention_heads": 2}
  network = importing.from_file(
    file._replace(settings=settings), options={"decoder_heads": 2}
  )
  assert network.config.encoder.layer_norm_epsilon == 1e-12
  assert network.config.objective.normalise_patches is False
  view = importing.from_file(
    file._replace(preprocessor={"do_normalize": False})
  ).config.views["global"]
  assert (view.mean, view.std) == ((0.0,) * 3, (1.0,) * 3)
  with pytest.raises(UsageError, match="does not divide by 255"):
    importing.from_file(file._replace(preprocessor={"rescale_factor": 1.0}))


@pytest.mark.parametrize("lost", ["pos_embed", "blocks.0.mlp.fc1.weight"])
def test_a_vit_without_a_part(lost):
  named = foreign.vit_timm()
  del named[lost]
  with pytest.raises(
    UsageError, match="its encoder has no|does not fit|absent"
  ):
    from_names(named)


def test_shapes_of_heads():
  named = foreign.simsiam()["state_dict"]
  key = "module.encoder.fc.0.weight"
  file = contents.unwrapped(
    "x", {"state_dict": named | {key: np.ones((12, 7), np.float32)}}
  )
  with pytest.raises(UsageError, match=r"linear_0.* is \[7, 12\], expected"):
    importing.from_file(file)
  gone = {n: x for n, x in named.items() if ".fc.3." not in n}
  with pytest.raises(UsageError, match="fit together|projector"):
    importing.from_file(contents.unwrapped("x", {"state_dict": gone}))


def test_a_head_of_four_layers_without_norms():
  content = foreign.dino()
  draw = foreign.Draw(30)
  for part, prefix in (("student", "module."), ("teacher", "")):
    named = {n: x for n, x in content[part].items() if "head.mlp." not in n}
    sizes = (foreign.WIDTH, 12, 12, 12, foreign.OUT)
    head = draw.mlp("head.mlp", sizes, bias=True, last_bias=True, norm=False)
    content[part] = named | {prefix + n: x for n, x in head.items()}
  network = importing.from_file(contents.unwrapped("x", content))
  assert network.config.objective.projector.widths == (12, 12, 12, 8)
  assert not network.config.objective.projector.hidden_norm


def test_an_incomplete_copy():
  content = foreign.spectral_contrastive()
  del content["state_dict"]["encoder.0.bn1.bias"]
  with pytest.raises(UsageError, match="encoder.0.bn1.bias is not the copy"):
    importing.from_file(contents.unwrapped("x", content))


# --- Which format ------------------------------------------------------------
def test_a_format_can_be_forced(tmp_path):
  """MAE's released files have the encoder alone, as timm's."""
  named = foreign.Draw().vit(positions=foreign.sines(foreign.WIDTH))
  source = save(tmp_path / "a.pth", {"model": named})
  network, said = convert(source, tmp_path / "b", name="mae", options=HEADS)
  assert network.origin["format"] == "mae" and "format mae" in said
  _, said = convert(source, tmp_path / "c", source_format="mae")
  assert "format mae" in said and (tmp_path / "c" / "checkpoints").is_dir()
  convert(source, tmp_path / "hf", name="hf_vit_mae", source_format="mae")
  config = json.loads((tmp_path / "hf" / "config.json").read_text())
  assert config["architectures"] == ["ViTMAEModel"]
  with pytest.raises(UsageError, match="a file ends in one of"):
    convert(source, tmp_path / "d.npz")


def test_moco_v3s_heads_by_its_positions():
  """Its encoder alone, as its converter writes it: the row's half first."""
  draw = foreign.Draw()
  positions = np.roll(foreign.sines(384), 192, axis=-1)
  named = draw.vit(positions=positions, d=384)
  assert from_names(named).config.encoder.heads == 12
  named = draw.vit(positions=foreign.sines(384), d=384)
  assert from_names(named).config.encoder.heads == 6


def test_names_of_a_new_file(tmp_path):
  """BYOL in lightly's names; a run without a teacher is no DINO file."""
  draw = foreign.Draw()
  network = importing.from_file(contents.unwrapped("x", foreign.lightly()))
  network.origin = None
  checkpoints.write(tmp_path / "byol", network)
  convert(tmp_path / "byol", tmp_path / "l.pth", name="lightly")
  written = torch.load(tmp_path / "l.pth")["state_dict"]
  assert {n.split(".")[0] for n in written} == {
    *("backbone", "projection_head", "prediction_head"),
    *("teacher_backbone", "teacher_projection_head"),
  }
  convert(tmp_path / "byol", tmp_path / "s.pth", name="solo_learn")
  again = importing.from_file(reading.read(tmp_path / "s.pth"))
  assert again.origin["format"] == "solo_learn"
  assert again.tree("teacher", "params")
  save(tmp_path / "vit.pth", draw.vit())
  convert(tmp_path / "vit.pth", tmp_path / "vit", options=HEADS)
  with pytest.raises(UsageError, match="have a teacher, and this network none"):
    convert(tmp_path / "vit", tmp_path / "d.pth", name="dino")
  network = importing.from_file(contents.unwrapped("x", foreign.barlow_twins()))
  network.origin = None
  network.arrays = {p: x for p, x in network.arrays.items() if "kept/" not in p}
  checkpoints.write(tmp_path / "barlow", network)
  convert(tmp_path / "barlow", tmp_path / "b.pth", name="barlow_twins")
  file = reading.read(tmp_path / "b.pth")
  assert importing.from_file(file).origin["format"] == "barlow_twins"
  assert np.all(file.tensors["bn.running_var"] == 1)


# --- What is told ------------------------------------------------------------
def test_strict_minds_lost_tensors_alone(tmp_path):
  named = foreign.resnet_torchvision()
  bare = {n: x for n, x in named.items() if not n.startswith("fc.")}
  save(tmp_path / "a.pth", bare)
  _, said = convert(tmp_path / "a.pth", tmp_path / "b", strict=True)
  assert "num_batches_tracked" not in said and "--image_size" in said
  save(tmp_path / "c.pth", named)
  with pytest.raises(UsageError, match="--strict: kept beside .* fc.weight"):
    convert(tmp_path / "c.pth", tmp_path / "d", strict=True)


def test_a_decoder_that_was_only_kept_is_told(tmp_path):
  save(tmp_path / "a.pth", foreign.mae())
  options = HEADS | {"image_size": 16}
  convert(tmp_path / "a.pth", tmp_path / "b", options=options)
  _, said = convert(tmp_path / "b", tmp_path / "c.pth", name="vit_timm")
  assert "without a place in vit_timm: decoder" in said


def test_what_no_file_says_is_told(tmp_path):
  network = importing.from_file(contents.unwrapped("x", foreign.solo_learn()))
  checkpoints.write(tmp_path / "a", network)
  _, said = convert(
    tmp_path / "a", tmp_path / "b.pth", name="resnet_torchvision"
  )
  assert "the stem pads two zeros" in said
  save(tmp_path / "c.pth", foreign.mae())
  convert(tmp_path / "c.pth", tmp_path / "d", options=HEADS)
  _, said = convert(tmp_path / "d", tmp_path / "e.pth", name="vit_timm")
  assert "it has 2 attention heads, which the file does not say" in said


def test_classifiers_go_between_formats(tmp_path):
  named = foreign.vit_timm()
  save(tmp_path / "a.pth", named)
  convert(tmp_path / "a.pth", tmp_path / "b", options=HEADS)
  convert(tmp_path / "b", tmp_path / "hf", name="hf_vit")
  config = json.loads((tmp_path / "hf" / "config.json").read_text())
  assert config["architectures"] == ["ViTForImageClassification"]
  assert len(config["id2label"]) == foreign.CLASSES
  written = reading.read(tmp_path / "hf").tensors
  for leaf in ("weight", "bias"):
    np.testing.assert_array_equal(
      written[f"classifier.{leaf}"], named[f"head.{leaf}"]
    )


def test_sizes_that_the_user_has_said_stand_in_the_folder(tmp_path):
  save(tmp_path / "a.pth", foreign.mae())
  convert(tmp_path / "a.pth", tmp_path / "b", options=HEADS)
  convert(tmp_path / "b", tmp_path / "hf", name="hf_vit")
  options = {"image_size": 16, "heads": 4}
  convert(tmp_path / "hf", tmp_path / "c", options=options)
  convert(tmp_path / "c", tmp_path / "again")
  config = json.loads((tmp_path / "again" / "config.json").read_text())
  assert config["image_size"] == 16 and config["num_attention_heads"] == 4
  size = json.loads((tmp_path / "again/preprocessor_config.json").read_text())
  assert size["size"] == {"height": 16, "width": 16}


def test_dinos_directions_are_not_swavs_vectors(tmp_path):
  save(tmp_path / "a.pth", foreign.dino(resnet=True))
  convert(tmp_path / "a.pth", tmp_path / "b")
  _, said = convert(tmp_path / "b", tmp_path / "c.pth", name="swav")
  assert "prototypes" not in torch.load(tmp_path / "c.pth")["state_dict"]
  assert "without a place in swav: " in said and "prototypes/kernel" in said


# --- Attacks -----------------------------------------------------------------
def refused(path, match):
  with pytest.raises(UsageError, match=match):
    reading.read(path)


def test_pickles_that_ask_for_memory(tmp_path):
  path = tmp_path / "a.pkl"
  path.write_bytes(b"\x80\x04Nr\x00\x00\x00\x7f.")  # memo number 2^31 - 2^24
  refused(path, "no dictionary")
  path.write_bytes(b"cnumpy\nndarray\n(I100000000\ntR.")
  refused(path, "arrays out of nothing")
  path.write_bytes(pickle.dumps({"x": np.array([{}], object)}))
  refused(path, "refused|not read")
  path.write_bytes(pickle.dumps({"x": np.array(["text"])}))
  refused(path, "not read")


def test_files_that_stand_for_more_than_they_hold(tmp_path):
  one = torch.zeros(10**5)
  torch.save({f"x{i}": one for i in range(60)}, tmp_path / "a.pth")
  refused(tmp_path / "a.pth", "bytes that stand for")


def test_odd_contents(tmp_path):
  deep: dict = {}
  inner = deep
  for _ in range(400):
    inner["x"] = inner = {}
  torch.save({"model": {"w": torch.ones(2)}, "more": deep}, tmp_path / "a.pth")
  with pytest.raises(UsageError, match="of no known format"):
    importing.from_file(reading.read(tmp_path / "a.pth"))
  torch.save({"w": torch.ones(2, dtype=torch.complex64)}, tmp_path / "b.pth")
  refused(tmp_path / "b.pth", "no plain tensor")
  torch.save({"w": torch.ones(2, device="meta")}, tmp_path / "c.pth")
  refused(tmp_path / "c.pth", "c.pth")
  sparse = torch.eye(2).to_sparse()
  vit = in_torch(foreign.vit_timm())
  torch.save({"model": vit, "optimizer": {"a": [sparse]}}, tmp_path / "d.pth")
  assert reading.read(tmp_path / "d.pth").others == ("optimizer",)
  large = {"w": np.array([1e300])}
  torch.save(in_torch(large), tmp_path / "e.pth")
  assert reading.read(tmp_path / "e.pth").tensors["w"][0] == 1e300


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("heads", 0),
    ("decoder_heads", -1),
    ("image_size", 0),
    ("std", (0.2, 0.0, 0.2)),
    ("std", (0.2, float("nan"), 0.2)),
    ("mean", (0.5, float("inf"), 0.5)),
  ],
)
def test_impossible_numbers(key, value, tmp_path):
  save(tmp_path / "a.pth", foreign.vit_timm())
  with pytest.raises(UsageError, match=rf"--{key}=.*must be"):
    convert(tmp_path / "a.pth", tmp_path / "ours", options={key: value})


def test_what_a_config_says_is_not_said_again(tmp_path):
  quietly(save(tmp_path / "a.pth", foreign.vit_timm()), tmp_path / "ours")
  with pytest.raises(UsageError, match="--heads is for files that do not say"):
    convert(tmp_path / "ours", tmp_path / "b.pth", options={"heads": 2})


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_name_that_is_taken_meanwhile(is_folder, tmp_path):
  target = tmp_path / "new" / "target"
  with (
    pytest.raises(UsageError, match="exists already"),
    writing.whole(target) as draft,
  ):
    if is_folder:
      draft.mkdir()
    else:
      draft.write_text("ours")
    target.write_text("theirs")
  assert target.read_text() == "theirs"
  assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_nothing_is_left_of_a_failure(tmp_path):
  target = tmp_path / "a" / "b" / "target"
  with pytest.raises(UsageError, match="stopped"), writing.whole(target):
    raise UsageError("stopped")
  assert not list(tmp_path.iterdir())


def test_targets_that_cannot_be_written(tmp_path):
  save(tmp_path / "a.pth", foreign.vit_timm())
  (tmp_path / "file").write_text("")
  for target in (tmp_path / "file" / "x", tmp_path / "file" / "x.pth"):
    with pytest.raises(UsageError, match="cannot be written|exists"):
      convert(tmp_path / "a.pth", target)
  for target in ("/proc/x", "/proc/x.pth", "/proc/x.safetensors"):
    with pytest.raises(UsageError, match="cannot be written"):
      convert(tmp_path / "a.pth", target)
