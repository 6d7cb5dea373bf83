"""No weight file runs anything; a bad one is one error and leaves nothing."""

import argparse
import json
import os
import pickle
import struct
import zipfile

from interop import foreign
from interop.files import in_torch, save
import numpy as np
import pytest

from mmae_jax import interop
from mmae_jax.interop import reading
from mmae_jax.types import UsageError

torch = pytest.importorskip("torch")


class Malicious:
  """Unpickling it writes a file."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


def tensors():
  return in_torch(foreign.vit_timm())


def refused(source, tmp_path, match, **kwargs):
  target = tmp_path / "target"
  with pytest.raises(UsageError, match=match):
    interop.convert(source, target, say=lambda line: None, **kwargs)
  assert not target.exists()
  assert not list(tmp_path.glob(".target*"))


@pytest.mark.parametrize("name", ["a.pth", "a.pkl", "pytorch_model.bin"])
def test_code_in_a_pickle_is_refused(name, tmp_path):
  proof, path = tmp_path / "it-ran", tmp_path / name
  content = {"model": tensors(), "more": Malicious(proof)}
  if name == "a.pkl":
    path.write_bytes(pickle.dumps(content))
  else:
    torch.save(content, path)
  source = path
  if name.endswith(".bin"):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    source = tmp_path / "folder"
    source.mkdir()
    for file in ("config.json", name):
      (tmp_path / file).rename(source / file)
  refused(source, tmp_path, "refused, a pickle .*asks for")
  assert not proof.exists()
  # The same by the older file format, which is a pickle without an archive.
  if name == "a.pth":
    torch.save(content, path, _use_new_zipfile_serialization=False)
    refused(source, tmp_path, "refused, a pickle")
    assert not proof.exists()


def test_a_namespace_is_read_and_no_other_class(tmp_path):
  arguments = argparse.Namespace(model="vit", lr=0.1)
  torch.save({"model": tensors(), "args": arguments}, tmp_path / "a.pth")
  assert reading.read(tmp_path / "a.pth").model == "vit"
  arguments.output = tmp_path  # a pathlib.Path
  torch.save({"model": tensors(), "args": arguments}, tmp_path / "b.pth")
  refused(tmp_path / "b.pth", tmp_path, r"asks for pathlib\.")


def test_archives(tmp_path):
  torch.save(tensors(), tmp_path / "a.pth")
  with zipfile.ZipFile(tmp_path / "a.pth") as archive:
    members = {name: archive.read(name) for name in archive.namelist()}

  def write(name, more, **kwargs):
    with zipfile.ZipFile(tmp_path / name, "w", **kwargs) as archive:
      for member, data in (members | more).items():
        archive.writestr(member, data)
    return tmp_path / name

  bomb = write(
    "bomb.pth",
    {"a/data/zeros": bytes(2**24)},
    compression=zipfile.ZIP_DEFLATED,
  )
  refused(bomb, tmp_path, r"bytes that declare [\d,]+")
  for name in ("../../evil", "/evil", "a\\..\\evil", "C:/evil"):
    path = write("path.pth", {name: b"x"})
    refused(path, tmp_path, "leads elsewhere")
  data = (tmp_path / "a.pth").read_bytes()
  (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
  refused(tmp_path / "cut.pth", tmp_path, "not a sound PyTorch file")


def test_a_tensor_that_declares_more_than_it_has(tmp_path):
  wide = torch.zeros(1).expand(10**6, 10**6)
  torch.save({"cls_token": wide}, tmp_path / "a.pth")
  refused(tmp_path / "a.pth", tmp_path, r"a tensor of \[1000000, 1000000\]")


def safetensors_file(path, header, data=b""):
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + data)
  return path


def test_safetensors(tmp_path):
  from safetensors.numpy import save_file

  save_file(foreign.vit_timm(), tmp_path / "a.safetensors")
  data = (tmp_path / "a.safetensors").read_bytes()
  (tmp_path / "cut.safetensors").write_bytes(data[:-9])
  refused(tmp_path / "cut.safetensors", tmp_path, "not a sound safetensors")
  header = {"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}
  path = safetensors_file(tmp_path / "b.safetensors", header, bytes(8))
  refused(path, tmp_path, "not a sound safetensors file")
  path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
  refused(path, tmp_path, "not a sound safetensors file")


def test_numbers_shapes_and_names(tmp_path):
  named = tensors()
  named["blocks.0.norm1.weight"] = torch.full((foreign.WIDTH,), float("nan"))
  torch.save(named, tmp_path / "a.pth")
  refused(tmp_path / "a.pth", tmp_path, "blocks.0.norm1.weight has values")
  named = tensors()
  named["norm.bias"] = torch.zeros(3)
  torch.save(named, tmp_path / "b.pth")
  refused(tmp_path / "b.pth", tmp_path, r"norm.*\[3\], expected \[16\]")
  named = tensors()
  del named["blocks.1.mlp.fc1.weight"]
  torch.save(named, tmp_path / "c.pth")
  refused(tmp_path / "c.pth", tmp_path, "block_1.*fc1.*is absent")
  named = tensors()
  named["blocks.0.ls1.gamma"] = torch.ones(foreign.WIDTH)
  torch.save(named, tmp_path / "d.pth")
  refused(tmp_path / "d.pth", tmp_path, r"ls1\.gamma is a part of the network")
  named = in_torch(foreign.mae()["model"])
  named["decoder_norm.bias"] = torch.zeros(3)
  torch.save(named, tmp_path / "i.pth")
  refused(tmp_path / "i.pth", tmp_path, r"'norm'.*decoder is \[3\], expected")
  torch.save({"weight": torch.ones(3)}, tmp_path / "e.pth")
  refused(tmp_path / "e.pth", tmp_path, "of no known format; its 1 tensors")
  torch.save(tensors(), tmp_path / "f.pth")
  refused(tmp_path / "f.pth", tmp_path, "--format=timm: unknown", name="timm")
  refused(tmp_path / "f.pth", tmp_path, "not of --format=swav", name="swav")
  torch.save([1, 2], tmp_path / "g.pth")
  refused(tmp_path / "g.pth", tmp_path, "no dictionary of tensors")
  refused(tmp_path / "nowhere.pth", tmp_path, "no such file")
  named = tensors() | {"reg_token": torch.zeros(1, 4, foreign.WIDTH)}
  torch.save(named, tmp_path / "j.pth")
  refused(tmp_path / "j.pth", tmp_path, r"it has register tokens")
  (tmp_path / "empty").mkdir()
  refused(tmp_path / "empty", tmp_path, "no config.json")
  copy = foreign.spectral_contrastive()
  copy["state_dict"]["encoder.0.bn1.bias"] = np.ones(foreign.CHANNELS)
  save(tmp_path / "h.pth", copy["state_dict"])
  refused(tmp_path / "h.pth", tmp_path, "encoder.0.bn1.bias is not the copy")


def test_a_target_that_is_there_stays(tmp_path):
  torch.save(tensors(), tmp_path / "a.pth")
  for name in ("folder", "b.pth"):
    target = tmp_path / name
    target.mkdir() if name == "folder" else target.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
      interop.convert(tmp_path / "a.pth", target, say=lambda line: None)
  assert (tmp_path / "b.pth").read_text() == "mine"


def test_a_hugging_face_index_stays_in_its_folder(tmp_path):
  folder = tmp_path / "hf"
  folder.mkdir()
  (folder / "config.json").write_text('{"model_type": "vit"}')
  index = {"weight_map": {"x": "../a.safetensors"}}
  (folder / "model.safetensors.index.json").write_text(json.dumps(index))
  refused(folder, tmp_path, "names a file outside the folder")
  (folder / "config.json").write_text("{")
  refused(folder, tmp_path, "not JSON")
