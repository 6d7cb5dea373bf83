"""The models of timm and torchvision, where those can be imported."""

from parity_suites import foreign


def vit(timm, dtype, *, sizes=None) -> foreign.Foreign:
  """timm's VisionTransformer."""
  import torch

  sizes = sizes or foreign.SMALL_VIT
  model = timm.models.vision_transformer.VisionTransformer(
    img_size=sizes["size"],
    patch_size=sizes["patch"],
    embed_dim=sizes["width"],
    depth=sizes["depth"],
    num_heads=sizes["heads"],
    mlp_ratio=sizes["ratio"],
    num_classes=5,
  )
  model = foreign.randomise(model.to(getattr(torch, dtype)))
  layers = {"encoder/patch_embed": "patch_embed"}
  for i in range(sizes["depth"]):
    for part in ("norm1", "attn", "norm2", "mlp"):
      layers[f"encoder/block_{i}/{part}"] = f"blocks.{i}.{part}"
    layers[f"encoder/block_{i}"] = f"blocks.{i}"
  layers["encoder/norm"] = "norm"
  return foreign.Foreign(
    "ViT",
    "vit",
    model.eval(),
    layers,
    lambda model, pixels: model.forward_features(pixels)[:, 0],
    sizes["size"],
    {},
    "vit_timm",
    {"heads": sizes["heads"]},
  )


def _basic_resnet(model, dtype, size, feature):
  import torch

  model = foreign.randomise(model.to(getattr(torch, dtype)))
  layers = foreign.resnet_layers(
    [1, 1, 1, 1],
    False,
    ("conv1", "bn1"),
    "layer{stage1}.{j}",
    "conv{k1}",
    "bn{k1}",
    ("downsample.0", "downsample.1"),
  )
  return foreign.Foreign(
    "ResNet-10",
    "resnet",
    model.eval(),
    foreign.present(model, layers),
    feature,
    size,
    {},
    "resnet_torchvision",
    {"image_size": size},
  )


def resnet(timm, dtype, *, size=64) -> foreign.Foreign:
  """timm's ResNet of basic blocks, one a stage."""
  module = timm.models.resnet
  model = module.ResNet(module.BasicBlock, (1, 1, 1, 1), num_classes=5)
  return _basic_resnet(
    model,
    dtype,
    size,
    lambda model, pixels: model.forward_features(pixels).mean(dim=(2, 3)),
  )


def torchvision_resnet(torchvision, dtype, *, size=64) -> foreign.Foreign:
  """torchvision's ResNet of basic blocks, one a stage."""
  module = torchvision.models.resnet
  model = module.ResNet(module.BasicBlock, [1, 1, 1, 1], num_classes=5)

  def feature(model, pixels):
    x = model.relu(model.bn1(model.conv1(pixels)))
    x = model.maxpool(x)
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
      x = stage(x)
    return model.avgpool(x).flatten(1)

  return _basic_resnet(model, dtype, size, feature)
