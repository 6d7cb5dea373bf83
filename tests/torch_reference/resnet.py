"""Residual networks of basic blocks, heads, and what methods make of them."""

import torch
from torch import nn


def conv(before, after, size, stride):
  """A convolution without bias that pads size // 2 zeros."""
  return nn.Conv2d(
    before, after, size, stride=stride, padding=size // 2, bias=False
  )


class Block(nn.Module):
  """relu(shortcut(x) + branch(x)); the branch is 3x3, 3x3."""

  def __init__(self, before, after, stride, norm):
    super().__init__()
    self.conv1, self.bn1 = conv(before, after, 3, stride), norm(after)
    self.conv2, self.bn2 = conv(after, after, 3, 1), norm(after)
    self.downsample = nn.Identity()
    if stride != 1 or before != after:
      self.downsample = nn.Sequential(
        conv(before, after, 1, stride), norm(after)
      )

  def forward(self, x):
    y = self.bn1(self.conv1(x)).relu()
    return (self.downsample(x) + self.bn2(self.conv2(y))).relu()


class ResNet(nn.Module):
  """Four stages behind a 3x3 convolution; the feature is the last map's mean.

  Attributes:
    fc: what `forward` puts on top of the feature.
  """

  def __init__(self, counts, width, *, epsilon, momentum):
    super().__init__()

    def norm(channels):
      return nn.BatchNorm2d(channels, eps=epsilon, momentum=1 - momentum)

    self.conv1, self.bn1 = conv(3, width, 3, 1), norm(width)
    before = width
    for stage, count in enumerate(counts):
      after = width * 2**stage
      blocks = []
      for i in range(count):
        stride = 2 if stage and not i else 1
        blocks.append(Block(before, after, stride, norm))
        before = after
      self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
    self.width = before
    self.fc = nn.Identity()

  def represent(self, images):
    """[n, width] of images [n, size, size, 3]."""
    x = self.bn1(self.conv1(images.permute(0, 3, 1, 2))).relu()
    for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
      x = stage(x)
    return x.mean(dim=(2, 3))

  def forward(self, images):
    return self.fc(self.represent(images))


def head(width, recipe, *, epsilon, momentum):
  """Linear layers, hidden ones with BatchNorm and ReLU behind them.

  Args:
    width: of its input.
    recipe: "widths"; "last_bias"; "last_norm": "none", "plain" (BatchNorm
      without scale and bias) or "scale" (without bias).
    epsilon, momentum: of BatchNorm; the share of the old statistics.
  """

  def norm(out, **kwargs):
    return nn.BatchNorm1d(out, eps=epsilon, momentum=1 - momentum, **kwargs)

  layers = []
  *hidden, last = recipe["widths"]
  for out in hidden:
    layers += [nn.Linear(width, out, bias=False), norm(out), nn.ReLU()]
    width = out
  layers.append(nn.Linear(width, last, bias=recipe["last_bias"]))
  if recipe["last_norm"] != "none":
    layers.append(norm(last, affine=recipe["last_norm"] == "scale"))
    layers[-1].bias = None
  return nn.Sequential(*layers)


class Contrastive(nn.Module):
  """SimCLR's network: backbone and projector, both views in one batch."""

  def __init__(self, backbone, projector):
    super().__init__()
    self.backbone, self.projector = backbone, projector

  def represent(self, images):
    return self.backbone.represent(images)

  def forward(self, first, second):
    """The projections of both views."""
    both = self.projector(self.backbone(torch.cat([first, second])))
    return both.chunk(2)


class Siamese(nn.Module):
  """Matrix-SSL's network: a student with a predictor, and its teacher."""

  def __init__(self, encoder, teacher, predictor):
    super().__init__()
    self.encoder, self.teacher = encoder, teacher
    self.predictor = predictor
    self.teacher.requires_grad_(False)

  def represent(self, images):
    return self.encoder.represent(images)

  def forward(self, first, second):
    """((teacher's projections), (student's predictions)) of both views."""
    students = [self.predictor(self.encoder(x)) for x in (first, second)]
    with torch.no_grad():
      teachers = [self.teacher(x) for x in (first, second)]
    return teachers, students

  @torch.no_grad()
  def move_teacher(self, rate):
    """teacher + rate (student - teacher), of parameters alone."""
    for old, new in zip(
      self.teacher.parameters(), self.encoder.parameters(), strict=True
    ):
      old += rate * (new - old)
