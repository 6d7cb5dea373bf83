"""transformers' models: the same numbers, and folders that it opens."""

import json

from interop import foreign
from interop.files import quietly, save
import jax
import numpy as np
import pytest

from mmae_jax.interop import catalogue, contents, importing, reading
from mmae_jax.models import MaskedAutoencoder, build_encoder, mae, patches

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
  "hidden_size": 48,
  "num_hidden_layers": 2,
  "num_attention_heads": 3,
  "intermediate_size": 96,
  "image_size": 32,
  "patch_size": 8,
}


def fill(model, seed=0):
  """Every parameter and statistic random, fixed positions but of MAE's."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, x in (*model.named_parameters(), *model.named_buffers()):
      if "var" in name:
        x.uniform_(0.5, 2, generator=generator)
      elif x.is_floating_point():
        x.normal_(0, 0.1, generator=generator)
  return model.eval()


def vit_mae(kind=torch.float32, eps=1e-6):
  config = transformers.ViTMAEConfig(
    **SIZES,
    decoder_hidden_size=32,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=4,
    decoder_intermediate_size=64,
    layer_norm_eps=eps,
    norm_pix_loss=True,
  )
  model = fill(transformers.ViTMAEForPreTraining(config).to(kind))
  with torch.no_grad():
    for x, width in (
      (model.vit.embeddings.position_embeddings, 48),
      (model.decoder.decoder_pos_embed, 32),
    ):
      x.copy_(torch.from_numpy(patches.position_table(width, 4)[None]))
  return model


def vit(kind=torch.float32):
  config = transformers.ViTConfig(**SIZES, num_labels=5)
  return fill(transformers.ViTForImageClassification(config).to(kind))


def resnet(kind=torch.float32):
  config = transformers.ResNetConfig(
    embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[3, 4, 6, 3]
  )
  return fill(transformers.ResNetForImageClassification(config).to(kind))


MODELS = {"hf_vit_mae": vit_mae, "hf_vit": vit, "hf_resnet": resnet}


def pixels(size=32, rows=3):
  return np.random.default_rng(0).normal(size=(rows, size, size, 3))


def in_torch(x, kind):
  return torch.from_numpy(x).permute(0, 3, 1, 2).to(kind)


def network_of(model, dtype):
  """Our network of a torch model, its weights as this type."""
  named = {n: x.numpy() for n, x in model.state_dict().items()}
  file = contents.File(named, settings=model.config.to_dict())
  network = importing.from_file(file)
  network.arrays = {
    p: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x
    for p, x in network.arrays.items()
  }
  return network


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_features(name, dtype):
  tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
  kind = getattr(torch, dtype)
  model, images = MODELS[name](kind), pixels()
  with torch.no_grad():
    if name == "hf_vit_mae":
      model.vit.config.mask_ratio = 0.0
      noise = torch.arange(16.0).repeat(3, 1)
      tokens = model.vit(in_torch(images, kind), noise=noise)
      expected = tokens.last_hidden_state[:, 0]
    elif name == "hf_vit":
      expected = model.vit(in_torch(images, kind)).last_hidden_state[:, 0]
    else:
      expected = model.resnet(in_torch(images, kind)).pooler_output.flatten(1)
  with jax.enable_x64(dtype == "float64"):
    network = network_of(model, dtype)
    encoder = build_encoder(network.config.encoder, 32)
    variables = {
      "params": network.tree("student", "params")["encoder"],
      "batch_stats": network.tree("student", "batch_stats").get("encoder", {}),
    }
    got = jax.jit(lambda v, x: encoder.apply(v, x, method="features"))(
      variables, images.astype(dtype)
    )
  scale = float(expected.abs().max())
  error = np.max(np.abs(np.asarray(got) - expected.numpy()))
  assert error <= tolerance * max(scale, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loss_of_mae(dtype):
  """With its noise, its default epsilon 1e-12, and the decoder."""
  tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
  kind = getattr(torch, dtype)
  model, images = vit_mae(kind, eps=1e-12), pixels()
  noise = np.random.default_rng(1).uniform(size=(3, 16))
  with torch.no_grad():
    theirs = model(
      in_torch(images, kind), noise=torch.from_numpy(noise).to(kind)
    )
  with jax.enable_x64(dtype == "float64"):
    network = network_of(model, dtype)
    config = network.config
    assert config.encoder.layer_norm_epsilon == 1e-12
    module = MaskedAutoencoder(
      build_encoder(config.encoder, 32),
      config.objective.decoder_width,
      config.objective.decoder_depth,
      config.objective.decoder_heads,
    )

    @jax.jit
    def run(params, images, noise):
      prediction, mask, _ = module.apply({"params": params}, images, noise)
      errors = mae.reconstruction_errors(
        prediction, images, mask, patch_size=8, normalise_patches=True
      )
      return prediction, errors.mean()

    prediction, loss = run(
      network.tree("student", "params"),
      images.astype(dtype),
      noise.astype(dtype),
    )
  np.testing.assert_allclose(
    prediction, theirs.logits.numpy(), rtol=tolerance, atol=tolerance
  )
  np.testing.assert_allclose(loss, theirs.loss.numpy(), rtol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_folders_go_out_as_they_came(name, tmp_path):
  model = MODELS[name]()
  model.save_pretrained(tmp_path / "theirs")
  network, lines = quietly(tmp_path / "theirs", tmp_path / "ours")
  assert lines[0].endswith(name) and network.config.encoder.depth in (2, 50)
  quietly(tmp_path / "ours", tmp_path / "back")
  again = type(model).from_pretrained(tmp_path / "back")
  for key, x in model.state_dict().items():
    assert torch.equal(x, again.state_dict()[key]), key
  written = json.loads((tmp_path / "back" / "config.json").read_text())
  assert written == json.loads((tmp_path / "theirs/config.json").read_text())


def test_a_new_folder_is_opened_without_complaint(tmp_path):
  """From official MAE: config, preprocessor and every tensor."""
  save(tmp_path / "mae.pth", foreign.mae())
  options = {"heads": 2, "decoder_heads": 2}
  quietly(tmp_path / "mae.pth", tmp_path / "ours", options=options)
  quietly(tmp_path / "ours", tmp_path / "hf", name="hf_vit_mae")
  model, told = transformers.ViTMAEForPreTraining.from_pretrained(
    tmp_path / "hf", output_loading_info=True
  )
  assert not any(told[k] for k in ("missing_keys", "unexpected_keys"))
  assert model.config.layer_norm_eps == 1e-6
  assert model.config.decoder_num_attention_heads == 2
  processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf")
  assert list(processor.image_mean) == [0.485, 0.456, 0.406]
  back, _ = quietly(tmp_path / "hf", tmp_path / "again")
  first = importing.from_file(
    reading.read(tmp_path / "mae.pth"), options=options
  )
  for part in ("encoder", "decoder"):
    jax.tree.map(
      np.testing.assert_array_equal,
      back.tree("student", "params")[part],
      first.tree("student", "params")[part],
    )


def test_the_three_dialects_are_one(tmp_path):
  """Names of the state dict and of the file of transformers 5, and of 4."""
  model = vit_mae()
  model.save_pretrained(tmp_path / "file")
  own = {n: x.numpy() for n, x in model.state_dict().items()}
  file = reading.read(tmp_path / "file")
  newest = importing.from_file(file)
  state = importing.from_file(contents.File(own, settings=file.settings))
  quietly(tmp_path / "file", tmp_path / "ours")
  quietly(tmp_path / "ours", tmp_path / "classic")
  classic = reading.read(tmp_path / "classic")
  assert "decoder.decoder_layers.0.attention.attention.query.weight" in (
    classic.tensors
  )
  assert "vit.encoder.layer.1.layernorm_after.bias" in classic.tensors
  table = catalogue.FORMATS["hf_vit_mae"]
  assert table.objective == "mae"
  for other in (state, importing.from_file(classic)):
    assert other.arrays.keys() == newest.arrays.keys()
    for path, x in newest.arrays.items():
      np.testing.assert_array_equal(other.arrays[path], x, err_msg=path)
