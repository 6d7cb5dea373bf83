"""The documents of a Hugging Face folder."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mmae_jax.models import resnet
from mmae_jax.types import UsageError

FORMATS = ("hf_vit", "hf_vit_mae", "hf_resnet")
_RESAMPLE = {"bilinear": 2, "bicubic": 3}


# What a user may have said, though config.json says something else.
_MAY_DIFFER = (
  *("image_size", "num_attention_heads", "decoder_num_attention_heads"),
  *("image_mean", "image_std", "size"),
)


def documents(
  fmt: str,
  config: ConfigDict,
  tensors: Mapping[str, Any],
  *,
  settings: Mapping[str, Any] | None = None,
  preprocessor: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
  """The JSON files of a folder, by their names without .json.

  Args:
    fmt: one of `FORMATS`.
    config: of the network.
    tensors: as they are written, by name.
    settings: config.json that the network came with; it is kept but for sizes,
      heads and pixels that the user has said otherwise.
    preprocessor: preprocessor_config.json that it came with.
  Returns:
    {"config": ..., "preprocessor_config": ...}.
  Raises:
    UsageError: as `settings_of`.
  """
  return {
    "config": _updated(settings, settings_of(fmt, config, tensors)),
    "preprocessor_config": _updated(preprocessor, preprocessor_of(config)),
  }


def _updated(came, made):
  if not came:
    return made
  changed = {
    key: made[key]
    for key in _MAY_DIFFER
    if key in made and key in came and came[key] != made[key]
  }
  return {**came, **changed}


def settings_of(
  fmt: str, config: ConfigDict, tensors: Mapping[str, Any]
) -> dict[str, Any]:
  """config.json of a network that transformers opens.

  Args:
    fmt: one of `FORMATS`.
    config: of the network.
    tensors: as they are written, by name.
  Returns:
    What the JSON file holds; of a ViT the fields that transformers 4.57 and 5
    both take.
  Raises:
    UsageError: a ResNet with a stem that transformers' has not.
  """
  if fmt == "hf_resnet":
    return _resnet(config, tensors)
  encoder = config.encoder
  prefixed = any(name.startswith("vit.") for name in tensors)
  classes = len(tensors.get("classifier.bias", ()))
  kinds = {
    ("hf_vit", True): "ViTForImageClassification",
    ("hf_vit", False): "ViTModel",
    ("hf_vit_mae", True): "ViTMAEForPreTraining",
    ("hf_vit_mae", False): "ViTMAEModel",
  }
  content = {
    "model_type": "vit_mae" if fmt == "hf_vit_mae" else "vit",
    "architectures": [kinds[fmt, prefixed]],
    "hidden_size": encoder.width,
    "num_hidden_layers": encoder.depth,
    "num_attention_heads": encoder.heads,
    "intermediate_size": round(encoder.width * encoder.mlp_ratio),
    "hidden_act": "gelu",
    "layer_norm_eps": encoder.get("layer_norm_epsilon", 1e-6),
    "image_size": config.views["global"].size,
    "patch_size": encoder.patch_size,
    "num_channels": 3,
    "qkv_bias": True,
  }
  if classes:
    content["id2label"] = {str(i): f"LABEL_{i}" for i in range(classes)}
    content["label2id"] = {f"LABEL_{i}": i for i in range(classes)}
  if fmt == "hf_vit_mae":
    objective = config.objective
    width = objective.get("decoder_width", 512)
    content |= {
      "decoder_hidden_size": width,
      "decoder_num_hidden_layers": objective.get("decoder_depth", 8),
      "decoder_num_attention_heads": objective.get("decoder_heads", 16),
      "decoder_intermediate_size": round(width * encoder.mlp_ratio),
      "mask_ratio": objective.get("mask_ratio", 0.75),
      "norm_pix_loss": objective.get("normalise_patches", True),
    }
  return content


def _resnet(config, tensors):
  encoder = config.encoder
  if encoder.stem != "imagenet":
    raise UsageError(
      f"--config.encoder.stem={encoder.stem}: transformers' ResNet has the one"
      " of ImageNet alone"
    )
  counts, bottleneck = resnet.STAGES[encoder.depth]
  width = int(64 * encoder.width_multiplier)
  classes = any(name.startswith("classifier.") for name in tensors)
  wider = 4 if bottleneck else 1
  return {
    "model_type": "resnet",
    "architectures": [
      "ResNetForImageClassification" if classes else "ResNetModel"
    ],
    "num_channels": 3,
    "embedding_size": width,
    "hidden_sizes": [width * wider * 2**i for i in range(4)],
    "depths": list(counts),
    "layer_type": "bottleneck" if bottleneck else "basic",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
  }


def preprocessor_of(config: ConfigDict) -> dict[str, Any]:
  """preprocessor_config.json: resize to the size, divide by 255, normalise.

  Args:
    config: of the network.
  Returns:
    What the JSON file holds. It squashes an image to the size; our evaluation
    takes the centre.
  """
  view = config.views["global"]
  return {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": view.size, "width": view.size},
    "resample": _RESAMPLE.get(view.interpolation, 3),
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(view.mean),
    "image_std": list(view.std),
  }
