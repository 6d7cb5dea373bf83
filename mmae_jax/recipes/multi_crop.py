"""What the configs of DINO, SwAV, DeepCluster and their ER variants share.

As `joint_embedding`, whose named sizes these configs have (vit_s16 besides,
where the authors trained one), with small crops beside the two large ones.
"""

import copy

from ml_collections import ConfigDict

from mmae_jax import augmentations
from mmae_jax.models import vit_size
from mmae_jax.recipes.joint_embedding import joint_embedding

# name: what 224-pixel views are called in `augmentations`.
_CROPS = {"dino": ("dino", "dino_local"), "swav": ("swav", "swav_local")}


def multi_crop(
  name: str,
  arg: str | None,
  *,
  family: str,
  arguments: tuple[str, ...],
) -> ConfigDict:
  """A multi-crop method's config but for its loss and optimizer.

  Args:
    name: of the objective.
    arg: what stands behind the colon of --config; None is the embedded data.
    family: "dino" or "swav", whose crops and colours the recipe has.
    arguments: all that may stand behind the colon.
  Returns:
    A ConfigDict.
  Raises:
    UsageError: an unknown argument; the message lists the known ones.
  """
  large, small = _CROPS[family]
  c = joint_embedding(
    name,
    arg,
    augmentation=large,
    cifar={"dino": "solo_learn_asymmetric", "swav": "solo_learn_symmetric"}[
      family
    ],
    arguments=arguments,
  )
  # A copy, which then has crops and, for 224 pixels, colours of its own.
  c.views.local = copy.deepcopy(c.views["global"])
  view = c.views.local
  photometry = view.photometry
  if arg is None:
    view.update(count=2, size=6, scale=(0.3, 0.6))
  elif arg == "fashion_mnist":
    view.update(count=2, size=16, scale=(0.1, 0.3))
  elif arg == "cifar10_resnet18":
    view.count = 0  # solo-learn's runs have none
  else:
    view.update(augmentations.views(small))
    view.update(count={"dino": 8, "swav": 6}[family], size=96)
  # What has an entry for each of two views has none for as many small ones.
  for key, value in photometry.items():
    if isinstance(value, tuple):
      photometry[key] = value[0]
  return c


def like_swav(c: ConfigDict, arg: str | None) -> None:
  """What DeepCluster takes over from SwAV: head, optimizer, sizes.

  Args:
    c: of `multi_crop`.
    arg: the same.
  """
  objective, optimizer = c.objective, c.optimizer
  objective.temperature = 0.1
  objective.drop_path = 0.0
  objective.projector.widths = (256, 128)
  if arg == "cifar10_resnet18":
    objective.projector.widths = (2048, 128)
    optimizer.base_learning_rate = 0.6
    optimizer.weight_decay = 1e-6  # recollection, not verified
  elif arg == "resnet18":
    objective.projector.widths = (2048, 128)
  elif arg == "resnet50":
    objective.projector.widths = (2048, 128)
    # Theirs: of 8 of the 64 GPUs.
    c.encoder.update(zero_init_last=False, group_size=512)
    c.batch_size = 4096
    c.epochs = 800
    optimizer.name = "lars"
    optimizer.larc = True
    optimizer.adapt = "all"
    optimizer.decay = "all"
    optimizer.base_learning_rate = 0.3
    optimizer.first_learning_rate = 0.3
    optimizer.min_learning_rate = 0.0048
    optimizer.warmup = "linspace"
    optimizer.weight_decay = 1e-6


def like_dino(c: ConfigDict, arg: str | None) -> None:
  """What DINO+ER takes over from DINO: head, teacher, optimizer, sizes.

  Args:
    c: of `multi_crop`.
    arg: the same.
  """
  objective, optimizer = c.objective, c.optimizer
  objective.centring = True
  objective.centre_momentum = 0.9
  objective.momentum = 0.99
  objective.prototypes = 256
  objective.student_temperature = 0.1
  objective.teacher_temperature = 0.04
  objective.warmup_teacher_temperature = 0.04
  objective.warmup_epochs = 0.0  # of the teacher's temperature
  objective.freeze_epochs = 1.0
  objective.drop_path = 0.0
  objective.projector.widths = (256, 128)
  c.evaluation.network = "teacher"
  optimizer.clip_each = 3.0
  if arg == "fashion_mnist":
    objective.prototypes = 512
    objective.freeze_epochs = 0.5
  elif arg == "cifar10_resnet18":
    objective.momentum = 0.9995
    objective.prototypes = 4096
    objective.projector.widths = (2048, 2048, 256)  # recollection, not verified
    optimizer.base_learning_rate = 0.3
    optimizer.clip_each = 0.0
    optimizer.weight_decay = 1e-6  # recollection, not verified
  elif arg is not None:
    objective.momentum = 0.996
    objective.prototypes = 65_536
    objective.projector.widths = (2048, 2048, 256)
    optimizer.min_learning_rate = 1e-6
    optimizer.warmup = "linspace"
  if arg == "resnet50":
    c.views["global"].scale = (0.14, 1.0)
    c.views.local.scale = (0.05, 0.14)
    c.encoder.zero_init_last = False
    c.batch_size = 512  # recollection, not verified
    c.epochs = 100
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.03
    optimizer.weight_decay = 1e-4
  elif arg == "vit_s16":
    objective.drop_path = 0.1
    c.encoder.update(name="vit", **vit_size("s16"))
    c.encoder.learned_positions = True
    c.encoder.dtype = "bfloat16"  # theirs: mixed float16
    c.batch_size = 512  # recollection, not verified
    c.epochs = 100
    optimizer.name = "adamw"
    optimizer.base_learning_rate = 5e-4
    optimizer.b2 = 0.999
    optimizer.weight_decay = 0.04
    optimizer.final_weight_decay = 0.4


def like_prototypes(c: ConfigDict, arg: str | None) -> None:
  """The prototypes of SwAV and SwAV+ER.

  Args:
    c: of `multi_crop`.
    arg: the same.
  """
  objective = c.objective
  objective.prototypes = 64
  objective.freeze_epochs = 1.0
  if arg == "fashion_mnist":
    objective.prototypes = 128
    objective.freeze_epochs = 0.5
  elif arg is not None:
    objective.prototypes = 3000
  if arg == "cifar10_resnet18":
    objective.freeze_epochs = 2.0


def like_deepcluster(c: ConfigDict, arg: str | None) -> None:
  """What both DeepClusters have beside SwAV's.

  Args:
    c: of `multi_crop`.
    arg: the same.
  """
  objective = c.objective
  c.epochs += 1.0  # the first fills the bank
  objective.clusters = (64, 64, 64)
  objective.iterations = 10
  objective.balanced = False
  if arg == "fashion_mnist":
    objective.clusters = (128, 128, 128)
  elif arg is not None:
    objective.clusters = (3000, 3000, 3000)
