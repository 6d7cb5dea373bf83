"""The config of a network whose tensors are at hand, from their shapes."""

from collections.abc import Callable, Mapping
import math
import re
from typing import Any

from ml_collections import ConfigDict
import numpy as np

from mmae_jax import config as config_lib
from mmae_jax.interop import lightning, positions as positions_lib
from mmae_jax.interop.contents import File
from mmae_jax.interop.format import MOCO_V3_HEADS, Format
from mmae_jax.models import resnet
from mmae_jax.types import UsageError

Tree = Mapping[str, np.ndarray]  # arrays by their path, "encoder/norm/scale"

# What a ViT elsewhere may have and ours has not: part of a name, and what it
# is. Another function would come out than that of the file.
_FOREIGN = {
  "reg_token": "register tokens",
  "norm_pre": "a norm before the blocks (pre_norm)",
  "attn_pool": "attention pooling",
  "dist_token": "a distillation token",
  "pre_logits": "a representation layer (pre_logits)",
  "patch_embed.proj.12.": "a convolutional stem (vit_conv)",
}
# Heads of official MAE's models, by their names.
_HEADS_OF = {
  "mae_vit_base_patch16": 12,
  "mae_vit_large_patch16": 16,
  "mae_vit_huge_patch14": 16,
}


def describe(
  fmt: Format,
  params: Tree,
  statistics: Tree,
  file: File,
  *,
  options: Mapping[str, Any],
  say: Callable[[str], None],
) -> ConfigDict:
  """The config of a converted network.

  Args:
    fmt: of the file.
    params: of the network, by path here.
    statistics: running ones, by path here.
    file: with the tensors' names as the format has them.
    options: heads, decoder_heads, image_size, mean, std; missing is what the
      file, or else the format, says.
    say: called with a line about what had to be guessed.
  Returns:
    A config that `load_encoder` and evaluations read; its objective has what
    is known of the heads.
  Raises:
    UsageError: an architecture that we do not have.
  """
  config = config_lib.base()
  config.name = f"converted-{fmt.name}"
  config.objective.name = fmt.objective or "mae"
  settings = file.settings or {}
  if settings.get("num_channels", 3) != 3:
    raise UsageError(f"num_channels {settings['num_channels']}: images have 3")
  _pixels(config.views["global"], fmt, file.preprocessor or {}, options, say)
  if "encoder/cls_token" in params:
    _vit(config, fmt, params, file, options, say)
  elif "encoder/conv1/kernel" in params:
    _resnet(config, fmt, params, options, settings, say)
  else:
    raise UsageError(
      f"no class token and no first convolution among its {len(file.tensors)}"
      f" tensors (format {fmt.name}): a ViT without a class token and other"
      " networks are not read"
    )
  for head in ("projector", "predictor"):
    if f"{head}/linear_0/kernel" in params:
      config.objective[head] = _mlp(head, params, statistics)
  if "prototypes/kernel" in params:
    config.objective.prototypes = params["prototypes/kernel"].shape[0]
  if "decoder/mask_token" in params:
    _decoder(config, fmt, params, options, settings, say)
  return config


def _pixels(view, fmt, preprocessor, options, say):
  """What the images are normalised with."""
  said = {
    "mean": preprocessor.get("image_mean"),
    "std": preprocessor.get("image_std"),
  }
  if preprocessor.get("do_normalize") is False:
    said = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
  factor = preprocessor.get("rescale_factor", 1 / 255)
  if abs(factor * 255 - 1) > 1e-6 or preprocessor.get("do_rescale") is False:
    raise UsageError(
      "its preprocessor does not divide by 255 (do_rescale, rescale_factor):"
      " give the same by --mean and --std, without preprocessor_config.json"
    )
  for (key, known), default in zip(said.items(), fmt.pixels, strict=True):
    value = options.get(key) or known or default
    view[key] = tuple(float(x) for x in value)
    if len(view[key]) != 3:
      raise UsageError(f"{key} of the pixels: {view[key]}, expected 3 numbers")
  if not all(options.get(key) or known for key, known in said.items()):
    say(
      f"a file does not say what images are normalised with; taken are mean"
      f" {view.mean} and deviation {view.std}: --mean, --std"
    )


def _blocks(params, part):
  found = {
    int(m[1]) for p in params if (m := re.match(rf"{part}/block_(\d+)/", p))
  }
  if found != set(range(len(found))) or not found:
    raise UsageError(f"blocks {sorted(found)} of the {part}: some are missing")
  return len(found)


def _vit(config, fmt, params, file, options, say):
  settings = file.settings or {}
  _need(settings, "hidden_act", "gelu")
  for part, what in _FOREIGN.items():
    if any(part in name for name in file.tensors):
      raise UsageError(f"it has {what} ({part}), which our ViT has not")
  if "encoder/norm/scale" not in params:
    raise UsageError(
      "it has no norm after its blocks (mean pooling, fc_norm), which our ViT"
      " has"
    )
  for path in ("patch_embed/kernel", "pos_embed", "block_0/mlp/fc1/kernel"):
    if f"encoder/{path}" not in params:
      raise UsageError(
        f"its encoder has no {path.removesuffix('/kernel')} as our ViT has it"
        " (square patches of three channels, learned or fixed positions)"
      )
  width = params["encoder/cls_token"].shape[-1]
  side = math.isqrt(params["encoder/patch_embed/kernel"].shape[0] // 3)
  hidden = params["encoder/block_0/mlp/fc1/kernel"].shape[1]
  positions = params["encoder/pos_embed"]
  grid = math.isqrt(positions.shape[1] - 1)
  if grid**2 != positions.shape[1] - 1:
    raise UsageError(
      f"{positions.shape[1]} positions are not a class token's and those of a"
      " square grid (no_embed_class, rectangular images): not read"
    )
  heads = options.get("heads") or settings.get("num_attention_heads")
  heads = heads or (12 if settings else None) or _HEADS_OF.get(file.model)
  heads = heads or _known_heads(fmt, file.tensors, positions, grid)
  if not heads:
    heads = max(1, width // 64)
    say(
      f"a file does not say the number of attention heads; width {width} is"
      f" taken to have {heads}: --heads"
    )
  rounding = positions_lib.precision(file.tensors)
  fixed = positions_lib.is_fixed(positions, grid, rounding)
  config.encoder.update(
    name="vit",
    width=width,
    depth=_blocks(params, "encoder"),
    heads=int(heads),
    patch_size=side,
    mlp_ratio=hidden / width,
    learned_positions=not fixed,
    layer_norm_epsilon=float(
      settings.get("layer_norm_eps", 1e-12 if settings else 1e-6)
    ),
  )
  config.views["global"].size = side * grid


def _need(settings, key, value):
  if settings.get(key, value) != value:
    raise UsageError(f"{key} {settings[key]!r}: our network has {value!r}")


def _known_heads(fmt, tensors, positions, grid):
  heads = fmt.heads
  if fmt.name == "solo_learn":
    is_v3 = (
      "momentum_projector.0.weight" in tensors
      and "projector.0.bias" not in tensors
    )
    if is_v3 or any(n.startswith("decoder.") for n in tensors):
      heads = lightning.SOLO_LEARN_HEADS
  elif fmt.name == "vit_timm":
    # MoCo v3's encoder alone; its positions have the row's half first.
    turned = np.roll(positions, positions.shape[-1] // 2, axis=-1)
    if positions_lib.is_fixed(turned, grid, 1e-5):
      heads = MOCO_V3_HEADS
  return dict(heads).get(positions.shape[-1])


def _resnet(config, fmt, params, options, settings, say):
  _need(settings, "hidden_act", "relu")
  _need(settings, "downsample_in_first_stage", False)
  _need(settings, "downsample_in_bottleneck", False)
  counts = tuple(
    len({p.split("/")[1] for p in params if p.startswith(f"encoder/layer{s}_")})
    for s in range(1, 5)
  )
  bottleneck = "encoder/layer1_0/conv3/kernel" in params
  depths = {value: depth for depth, value in resnet.STAGES.items()}
  depth = depths.get((counts, bottleneck))
  if depth is None:
    known = ", ".join(f"{d}: {c}" for d, (c, _) in resnet.STAGES.items())
    raise UsageError(
      f"a ResNet with {counts} blocks in its stages; ours have {known}"
    )
  kernel = params["encoder/conv1/kernel"]
  stem = {7: "imagenet", 3: "small"}.get(kernel.shape[0])
  if stem is None or kernel.shape[2] != 3:
    raise UsageError(
      f"a first convolution of {list(kernel.shape)}; ours are 7 x 7 or 3 x 3 on"
      " 3 channels"
    )
  if stem == "small":
    stem = "small_padded" if fmt.name == "solo_learn" else stem
    say(f"a file does not say the padding of a 3 x 3 stem; taken is {stem}")
  size = options.get("image_size")
  if not size:
    size = 224 if stem == "imagenet" else 32
    say(f"a ResNet does not say its image size; taken is {size}: --image_size")
  config.encoder.update(
    name="resnet",
    depth=depth,
    width_multiplier=kernel.shape[-1] / 64,
    stem=stem,
  )
  config.views["global"].size = size


def _mlp(head, params, statistics):
  """The `config.objective.<head>` of linear layers and norms."""
  count = sum(
    p.startswith(f"{head}/linear_") and p.endswith("kernel") for p in params
  )
  last = count - 1
  at = lambda k, leaf: f"{head}/{leaf.format(k)}"
  if at(last, "norm_{}/bias") in params:
    last_norm = "affine"
  elif at(last, "norm_{}/scale") in params:
    last_norm = "scale"
  elif at(last, "norm_{}/mean") in statistics:
    last_norm = "plain"
  else:
    last_norm = "none"
  return ConfigDict(
    {
      "widths": tuple(
        params[at(k, "linear_{}/kernel")].shape[1] for k in range(count)
      ),
      "hidden_bias": count > 1 and at(0, "linear_{}/bias") in params,
      "last_bias": at(last, "linear_{}/bias") in params,
      "hidden_norm": count > 1 and at(0, "norm_{}/scale") in params,
      "last_norm": last_norm,
    }
  )


def _decoder(config, fmt, params, options, settings, say):
  width = params["decoder/mask_token"].shape[-1]
  heads = options.get("decoder_heads") or settings.get(
    "decoder_num_attention_heads", 16 if settings else None
  )
  if not heads:
    heads = max(1, width // 32)
    if width != 512:
      say(
        f"a file does not say the decoder's attention heads; width {width} is"
        f" taken to have {heads}: --decoder_heads"
      )
  if width % int(heads):
    raise UsageError(
      f"--decoder_heads={heads}: does not divide the decoder's width {width}"
    )
  config.objective.update(
    decoder_width=width,
    decoder_depth=_blocks(params, "decoder"),
    decoder_heads=int(heads),
    mask_ratio=settings.get("mask_ratio", 0.75),
    # Recipes of MAE's, whose files do not say, have it; transformers has not.
    normalise_patches=settings.get("norm_pix_loss", not settings),
  )
  if fmt.name == "solo_learn":
    config.objective.decoder_norm_epsilon = 1e-5
