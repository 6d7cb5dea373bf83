"""The published runs of the entropy and reconstruction paper."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# Behind the colon: ResNet-50 on ImageNet, and its two stress settings.
ER = ("resnet50", "batch512", "ema08")


def on_the_sphere(c: ConfigDict) -> None:
  """The switches of SimCLR+ER and BYOL+ER; None is the global batch, or off."""
  c.objective.kappa = 10.0
  c.objective.estimator = "plugin"
  c.objective.symmetric = True
  c.objective.entropy_scope = placeholder(int)
  c.objective.bessel_floor = placeholder(float)


def of_categories(c: ConfigDict) -> None:
  """The switches of the entropy of classes; None is the global batch."""
  c.objective.entropy_scope = placeholder(int)
  c.objective.entropy_views = "global"


def like_er(c: ConfigDict, arg: str) -> None:
  """What the paper's ResNet-50 runs have in common.

  Args:
    c: of `joint_embedding` or `multi_crop`.
    arg: one of `ER`.
  """
  c.batch_size = 4096  # recollection, not verified
  if arg == "batch512":
    c.batch_size = 512
  c.epochs = 400
  optimizer = c.optimizer
  optimizer.name = "lars"
  optimizer.clip_each = 0.0
  optimizer.base_learning_rate = 0.3  # recollection, not verified
  optimizer.min_learning_rate = 0.0
  optimizer.warmup = "from_zero"
  optimizer.warmup_epochs = 10.0  # unknown; BYOL's and SimCLR's
  optimizer.weight_decay = 1e-6  # unknown; SimCLR's
  if "momentum" in c.objective:
    # Whether it grows to 1 is unknown; here it does.
    c.objective.momentum = 0.8 if arg == "ema08" else 0.99
  if "kappa" in c.objective:
    c.objective.entropy_scope = 256  # read off figure 2, not stated
