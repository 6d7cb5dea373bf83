"""transformers' models, at the sizes that are asked for.

Each has every parameter and running statistic random, so that none is compared
at the one or zero it begins with.
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Any

import numpy as np

from mmae_jax.interop import contents, importing
from mmae_jax.models import patches

# Sizes of the default report, and of `--full`.
SMALL_VIT = dict(width=48, depth=2, heads=3, patch=8, size=32, ratio=2)
SMALL_DECODER = dict(width=32, depth=1, heads=4)
VIT_B = dict(width=768, depth=12, heads=12, patch=16, size=224, ratio=4)
VIT_L = dict(width=1024, depth=24, heads=16, patch=16, size=224, ratio=4)
FULL_DECODER = dict(width=512, depth=8, heads=16)


@dataclasses.dataclass
class Foreign:
  """A model of another program.

  Attributes:
    name: of the model, for the report.
    kind: "masked", "vit" or "resnet".
    model: the torch module.
    layers: {path of our module: name of theirs}, from the first to the last.
    feature: (model, pixels [batch, 3, size, size]) -> [batch, dim].
    size: of the images.
    settings: what the importer is told that no weight says.
  """

  name: str
  kind: str
  model: Any
  layers: dict[str, str]
  feature: Callable[..., Any] | None
  size: int
  settings: Mapping[str, Any]
  format: str
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def network(self, gradient: bool = False):
    """Our network with its weights, or with its gradients in their place."""
    # The memory is PyTorch's: whoever steps the model has a network of before
    # no longer.
    values = {n: x.numpy() for n, x in self.model.state_dict().items()}
    if gradient:
      for name, p in self.model.named_parameters():
        if p.requires_grad:
          values[name] = (
            np.zeros(p.shape, values[name].dtype)
            if p.grad is None
            else p.grad.numpy()
          )
    return importing.from_file(
      contents.File(values, settings=dict(self.settings)),
      name=self.format,
      options=self.options,
    )


def randomise(model, seed: int = 0):
  """Random weights of a usual size, random norms and statistics."""
  import torch

  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, x in (*model.named_parameters(), *model.named_buffers()):
      if not x.is_floating_point():
        continue
      if "running_var" in name:
        x.uniform_(0.5, 2, generator=generator)
      elif x.ndim > 1:
        x.normal_(0, 1 / math.sqrt(x[0].numel()), generator=generator)
      else:
        x.normal_(0, 0.1, generator=generator)
        if name.endswith("weight"):  # of a norm
          x.add_(1)
  return model


# --- transformers


def _hf_vit_sizes(sizes):
  return {
    "hidden_size": sizes["width"],
    "num_hidden_layers": sizes["depth"],
    "num_attention_heads": sizes["heads"],
    "intermediate_size": sizes["ratio"] * sizes["width"],
    "image_size": sizes["size"],
    "patch_size": sizes["patch"],
    "layer_norm_eps": 1e-6,
    # The eager form takes its softmax in float32 whatever the model's type.
    "attn_implementation": "sdpa",
  }


def _hf_block(ours, theirs):
  """A block's modules; the MLP has one only since transformers 5."""
  return {
    f"{ours}/norm1": f"{theirs}.layernorm_before",
    f"{ours}/attn": f"{theirs}.attention",
    f"{ours}/norm2": f"{theirs}.layernorm_after",
    f"{ours}/mlp": f"{theirs}.mlp",
    ours: theirs,
  }


def _hf_encoder(model, depth):
  names = dict(model.named_modules())
  blocks = "vit.layers" if "vit.layers.0" in names else "vit.encoder.layer"
  layers = {"encoder/patch_embed": "vit.embeddings.patch_embeddings"}
  for i in range(depth):
    layers |= _hf_block(f"encoder/block_{i}", f"{blocks}.{i}")
  return layers | {"encoder/norm": "vit.layernorm"}


def present(model, layers):
  """Those of the layers that the model has as modules of their own.

  Raises:
    ValueError: one is not there that every version has.
  """
  names = dict(model.named_modules())
  found = {ours: theirs for ours, theirs in layers.items() if theirs in names}
  for ours in layers.keys() - found.keys():
    if not ours.endswith(("/mlp", "/downsample_0", "/downsample_1")):
      raise ValueError(f"{layers[ours]}: no module of {type(model).__name__}")
  return found


def vit_mae(transformers, dtype, *, sizes=None, decoder=None) -> Foreign:
  """transformers' ViTMAEForPreTraining."""
  import torch

  sizes, decoder = sizes or SMALL_VIT, decoder or SMALL_DECODER
  config = transformers.ViTMAEConfig(
    **_hf_vit_sizes(sizes),
    decoder_hidden_size=decoder["width"],
    decoder_num_hidden_layers=decoder["depth"],
    decoder_num_attention_heads=decoder["heads"],
    decoder_intermediate_size=sizes["ratio"] * decoder["width"],
    norm_pix_loss=True,
    mask_ratio=0.75,
  )
  model = transformers.ViTMAEForPreTraining(config).to(getattr(torch, dtype))
  randomise(model)
  grid = sizes["size"] // sizes["patch"]
  with torch.no_grad():
    # transformers 5 leaves the decoder's positions at zero without a file.
    for x, width in (
      (model.vit.embeddings.position_embeddings, sizes["width"]),
      (model.decoder.decoder_pos_embed, decoder["width"]),
    ):
      table = patches.position_table(width, grid)[None]
      x.copy_(torch.from_numpy(table))
  layers = _hf_encoder(model, sizes["depth"])
  layers["decoder/embed"] = "decoder.decoder_embed"
  for i in range(decoder["depth"]):
    layers |= _hf_block(f"decoder/block_{i}", f"decoder.decoder_layers.{i}")
  layers |= {
    "decoder/norm": "decoder.decoder_norm",
    "decoder/pred": "decoder.decoder_pred",
  }
  return Foreign(
    "ViTMAE",
    "masked",
    model.eval(),
    present(model, layers),
    None,
    sizes["size"],
    config.to_dict(),
    "hf_vit_mae",
  )


def vit(transformers, dtype, *, sizes=None) -> Foreign:
  """transformers' ViT, with learned positions and a classifier."""
  import torch

  sizes = sizes or SMALL_VIT
  config = transformers.ViTConfig(**_hf_vit_sizes(sizes), num_labels=5)
  model = transformers.ViTForImageClassification(config)
  model = randomise(model.to(getattr(torch, dtype)))
  return Foreign(
    "ViT",
    "vit",
    model.eval(),
    present(model, _hf_encoder(model, sizes["depth"])),
    lambda model, pixels: model.vit(pixels).last_hidden_state[:, 0],
    sizes["size"],
    config.to_dict(),
    "hf_vit",
  )


def resnet_layers(counts, bottleneck, stem, block, conv, norm, shortcut):
  """Names of all modules but the first pooling."""
  layers = {"encoder/conv1": stem[0], "encoder/bn1": stem[1]}
  for stage, count in enumerate(counts):
    for j in range(count):
      ours = f"encoder/layer{stage + 1}_{j}"
      theirs = block.format(stage=stage, stage1=stage + 1, j=j)
      for k in range(3 if bottleneck else 2):
        names = dict(k=k, k1=k + 1)
        layers[f"{ours}/conv{k + 1}"] = f"{theirs}.{conv.format(**names)}"
        layers[f"{ours}/bn{k + 1}"] = f"{theirs}.{norm.format(**names)}"
      for k in range(2):
        layers[f"{ours}/downsample_{k}"] = f"{theirs}.{shortcut[k]}"
      layers[ours] = theirs
  return layers


def resnet(
  transformers, dtype, *, bottleneck=False, width=8, size=64
) -> Foreign:
  """transformers' ResNet: 10 of basic blocks, or 50."""
  import torch

  counts = [3, 4, 6, 3] if bottleneck else [1, 1, 1, 1]
  out = 4 * width if bottleneck else width
  config = transformers.ResNetConfig(
    embedding_size=width,
    hidden_sizes=[out * 2**i for i in range(4)],
    depths=counts,
    layer_type="bottleneck" if bottleneck else "basic",
    downsample_in_bottleneck=False,
  )
  model = transformers.ResNetForImageClassification(config)
  model = randomise(model.to(getattr(torch, dtype)))
  if bottleneck:
    # As in trained networks branches are small beside the shortcut; else
    # rounding grows from block to block.
    with torch.no_grad():
      for name, p in model.named_parameters():
        if name.endswith("layer.2.normalization.weight"):
          p.mul_(0.2)
  embedder = "resnet.embedder.embedder"
  layers = resnet_layers(
    counts,
    bottleneck,
    (f"{embedder}.convolution", f"{embedder}.normalization"),
    "resnet.encoder.stages.{stage}.layers.{j}",
    "layer.{k}.convolution",
    "layer.{k}.normalization",
    ("shortcut.convolution", "shortcut.normalization"),
  )
  return Foreign(
    f"ResNet-{50 if bottleneck else 10}",
    "resnet",
    model.eval(),
    present(model, layers),
    lambda model, pixels: model.resnet(pixels).pooler_output.flatten(1),
    size,
    config.to_dict(),
    "hf_resnet",
    {"image_size": size},
  )
