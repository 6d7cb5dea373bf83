"""Every format: recognised, read into our network, written back bit for bit."""

from interop import foreign
from interop.files import assert_same_tensors, in_torch, quietly, save
import jax
import numpy as np
import pytest

from mmae_jax import load_encoder
from mmae_jax.interop import (
  catalogue,
  checkpoints,
  contents,
  importing,
)
from mmae_jax.models import build_encoder
from mmae_jax.types import UsageError

torch = pytest.importorskip("torch")


def flat(content, before=""):
  """{path: tensor} of nested dictionaries; what is no tensor is left out."""
  found = {}
  for name, x in content.items():
    if isinstance(x, dict):
      found |= flat(x, f"{before}{name}/")
    elif isinstance(x, torch.Tensor):
      found[before + name] = x
  return found


@pytest.mark.parametrize("name", foreign.ALL)
def test_round_trip(name, tmp_path):
  fmt, make = foreign.ALL[name]
  source = save(tmp_path / "theirs.pth", make())
  network, lines = quietly(source, tmp_path / "ours")
  assert lines[0] == f"{source}: format {fmt}"
  assert network.origin["format"] == fmt
  quietly(tmp_path / "ours", tmp_path / "back.pth")
  expected = flat(torch.load(source, weights_only=True))
  got = flat(torch.load(tmp_path / "back.pth", weights_only=True))
  assert_same_tensors(got, expected)


@pytest.mark.parametrize(
  ("name", "prefix"),
  [
    ("moco v2", "module.encoder_q."),
    ("mec", "module.encoder."),
    ("spectral", "backbone."),
    ("lightly numbered", None),
    ("swav", "module."),
  ],
)
def test_the_backbone_is_that_of_the_file(name, prefix):
  """Its arrays are those of the same tensors as torchvision's ResNet."""
  _, make = foreign.ALL[name]
  content = make()
  named = content.get("state_dict", content)
  if prefix is None:
    numbers = {"0": "conv1", "1": "bn1"}
    numbers |= {str(s + 3): f"layer{s}" for s in range(1, 5)}
    bare = {}
    for n, x in named.items():
      if n.startswith("backbone."):
        first, _, rest = n.removeprefix("backbone.").partition(".")
        bare[f"{numbers[first]}.{rest}"] = x
  else:
    parts = ("conv1", "bn1", "layer")
    bare = {
      n.removeprefix(prefix): x
      for n, x in named.items()
      if n.startswith(prefix) and n.removeprefix(prefix).startswith(parts)
    }
  plain = importing.from_file(contents.File(bare), name="resnet_torchvision")
  full = importing.from_file(contents.unwrapped("x", content))
  for collection in ("params", "batch_stats"):
    one = plain.tree("student", collection)["encoder"]
    other = full.tree("student", collection)["encoder"]
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_twin_is_the_teacher(tmp_path):
  """DINO's teacher is evaluated; MoCo's query encoder is."""
  content = foreign.dino()
  source = save(tmp_path / "dino.pth", content)
  quietly(source, tmp_path / "ours")
  _, info = load_encoder(tmp_path / "ours")
  network = checkpoints.read(tmp_path / "ours")
  token = network.tree("teacher", "params")["encoder"]["cls_token"]
  np.testing.assert_array_equal(token, content["teacher"]["backbone.cls_token"])
  token = network.tree("student", "params")["encoder"]["cls_token"]
  np.testing.assert_array_equal(
    token, content["student"]["module.backbone.cls_token"]
  )
  assert info["config"].evaluation.network == "teacher"
  centre = network.tree("carry", "carry")["centre"]
  np.testing.assert_array_equal(centre, content["dino_loss"]["center"][0])
  # A file with the teacher alone is a network like any other.
  save(tmp_path / "teacher.pth", content["teacher"])
  network, _ = quietly(tmp_path / "teacher.pth", tmp_path / "one")
  assert network.origin["format"] == "dino"
  assert network.config.evaluation.network == "student"
  quietly(tmp_path / "one", tmp_path / "back.pth")
  back = flat(torch.load(tmp_path / "back.pth"))
  assert_same_tensors(back, flat(in_torch(content["teacher"])))


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16", np.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_types_come_back(dtype, suffix, tmp_path):
  kind = {"bfloat16": torch.bfloat16, np.float16: torch.float16}.get(
    dtype, torch.float64
  )
  named = {n: x.to(kind) for n, x in in_torch(foreign.vit_timm()).items()}
  source = tmp_path / f"theirs{suffix}"
  if suffix == ".pth":
    torch.save(named, source)
  else:
    from safetensors.torch import save_file

    save_file(named, source)
  quietly(source, tmp_path / "ours", options={"heads": 2})
  quietly(tmp_path / "ours", tmp_path / f"back{suffix}")
  if suffix == ".pth":
    back = torch.load(tmp_path / "back.pth")
  else:
    from safetensors.torch import load_file

    back = load_file(tmp_path / "back.safetensors")
  assert_same_tensors(back, named)


def test_prefixes_nest(tmp_path):
  named = {f"module._orig_mod.{n}": x for n, x in foreign.vit_timm().items()}
  source = save(tmp_path / "a.pth", named)
  quietly(source, tmp_path / "ours")
  quietly(tmp_path / "ours", tmp_path / "b.pth")
  assert_same_tensors(torch.load(tmp_path / "b.pth"), in_torch(named))


def test_detectron2(tmp_path):
  """Names of the published conversion; a pickle of arrays, read back."""
  import pickle

  source = save(tmp_path / "a.pth", foreign.simsiam())
  quietly(source, tmp_path / "ours")
  quietly(tmp_path / "ours", tmp_path / "r50.pkl", name="detectron2")
  content = pickle.loads((tmp_path / "r50.pkl").read_bytes())
  assert content["matching_heuristics"] is True and content["__author__"]
  expected = {}
  for name, x in foreign.simsiam()["state_dict"].items():
    name = name.removeprefix("module.")
    if not name.startswith("encoder.") or ".fc." in name:
      continue
    name = name.removeprefix("encoder.")
    if name.endswith("num_batches_tracked"):
      continue
    if "layer" not in name:
      name = f"stem.{name}"
    for s in (1, 2, 3, 4):
      name = name.replace(f"layer{s}", f"res{s + 1}")
    for c in (1, 2, 3):
      name = name.replace(f"bn{c}", f"conv{c}.norm")
    name = name.replace("downsample.0", "shortcut")
    name = name.replace("downsample.1", "shortcut.norm")
    expected[name] = x
  assert content["model"].keys() == expected.keys()
  for name, x in expected.items():
    np.testing.assert_array_equal(content["model"][name], x, err_msg=name)
  network, _ = quietly(tmp_path / "r50.pkl", tmp_path / "again")
  assert network.origin["format"] == "detectron2"


def test_between_two_other_formats(tmp_path):
  source = save(tmp_path / "mae.pth", foreign.mae())
  _, lines = quietly(
    source,
    tmp_path / "timm.safetensors",
    name="vit_timm",
    source_format="mae",
    options={"heads": 2},
  )
  from safetensors.numpy import load_file

  got, theirs = load_file(tmp_path / "timm.safetensors"), foreign.mae()["model"]
  assert got.keys() == {n for n in theirs if "decoder" not in n} - {
    "mask_token"
  }
  for name, x in got.items():
    np.testing.assert_array_equal(x, theirs[name])
  assert any("without a place in vit_timm: decoder" in line for line in lines)
  with pytest.raises(UsageError, match=r"--strict: .*without a place"):
    quietly(
      source,
      tmp_path / "no.pth",
      name="vit_timm",
      source_format="mae",
      strict=True,
    )
  assert not (tmp_path / "no.pth").exists()


def test_another_image_size(tmp_path):
  """torch's bicubic, without antialiasing; the class token's stays."""
  content = foreign.vit_timm()
  source = save(tmp_path / "a.pth", content)
  network, lines = quietly(
    source, tmp_path / "ours", options={"image_size": 20, "heads": 2}
  )
  positions = torch.from_numpy(content["pos_embed"]).double()
  grid = positions[:, 1:].reshape(1, 2, 2, -1).permute(0, 3, 1, 2)
  grid = torch.nn.functional.interpolate(
    grid, size=(5, 5), mode="bicubic", align_corners=False
  )
  expected = torch.cat(
    [positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, 25, -1)], 1
  )
  got = network.tree("student", "params")["encoder"]["pos_embed"]
  np.testing.assert_allclose(got, expected, atol=1e-7)
  assert network.config.views["global"].size == 20
  assert any("resized from 2^2 to 5^2" in line for line in lines)
  _, info = load_encoder(tmp_path / "ours")
  assert info["image_size"] == 20


def test_heads_are_a_guess_that_is_told(tmp_path):
  source = save(tmp_path / "a.pth", foreign.vit_timm())
  network, lines = quietly(source, tmp_path / "one")
  assert network.config.encoder.heads == 1
  assert any("--heads" in line for line in lines)
  network, lines = quietly(source, tmp_path / "two", options={"heads": 4})
  assert network.config.encoder.heads == 4
  assert not any("--heads" in line for line in lines)


def test_our_own_run_in_every_format_that_fits(tmp_path):
  """What is written anew is recognised, and gives the same network."""
  draw = foreign.Draw(20)
  vit = draw.vit(positions=foreign.sines(foreign.WIDTH))
  decoder = draw.mae_decoder(positions=foreign.sines(8))
  sources = {
    "vit": importing.from_file(
      contents.File(vit | decoder, "model", {"": ""}), options={"heads": 2}
    ),
    "resnet": importing.from_file(
      contents.unwrapped("x", foreign.simsiam(teacher=True))
    ),
  }
  for kind, network in sources.items():
    network.origin = None
    network.arrays = {
      p: x for p, x in network.arrays.items() if "kept/" not in p
    }
    checkpoints.write(tmp_path / kind, network)
  fits = {
    "vit": ("mae", "hf_vit", "hf_vit_mae", "vit_timm"),
    "resnet": (
      "resnet_torchvision",
      "hf_resnet",
      "simsiam",
      "mec",
      "matrix_ssl",
      "detectron2",
    ),
  }
  assert set(fits["vit"] + fits["resnet"]) <= set(catalogue.FORMATS)
  for kind, formats in fits.items():
    network = sources[kind]
    for fmt in formats:
      suffix = "" if fmt.startswith("hf_") else ".pth"
      if fmt == "detectron2":
        suffix = ".pkl"
      written = tmp_path / f"{fmt}{suffix}"
      quietly(tmp_path / kind, written, name=fmt)
      force = {"name": fmt} if fmt == "matrix_ssl" else {}
      again, lines = quietly(
        written, tmp_path / f"{fmt}-again", options={"heads": 2}, **force
      )
      assert lines[0] == f"{written}: format {fmt}"
      for collection in ("params", "batch_stats"):
        one = network.tree("student", collection).get("encoder", {})
        other = again.tree("student", collection).get("encoder", {})
        jax.tree.map(np.testing.assert_array_equal, one, other)
      if fmt in ("mec", "matrix_ssl"):
        jax.tree.map(
          np.testing.assert_array_equal,
          network.tree("teacher", "params"),
          again.tree("teacher", "params"),
        )


def test_the_network_runs():
  """Padding of solo-learn's CIFAR ResNet: a map of 34 x 34 after the stem."""
  network = importing.from_file(contents.unwrapped("x", foreign.solo_learn()))
  assert network.config.encoder.stem == "small_padded"
  encoder = build_encoder(network.config.encoder, 32)
  shape = jax.eval_shape(
    lambda v, x: encoder.apply(v, x, method="features"),
    {
      "params": network.tree("student", "params")["encoder"],
      "batch_stats": network.tree("student", "batch_stats")["encoder"],
    },
    jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32),
  )
  assert shape.shape == (2, 8 * foreign.CHANNELS)
  network = importing.from_file(
    contents.unwrapped("x", foreign.solo_learn("mae"))
  )
  assert network.config.objective.decoder_norm_epsilon == 1e-5
  assert network.config.encoder.layer_norm_epsilon == 1e-6
