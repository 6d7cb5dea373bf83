"""What the configs of the two-view methods share.

A config is `recipes.joint_embedding(name, arg, augmentation=...)` and what is
its own. The named sizes:

    (none)             scikit-learn's digits, 8 x 8, embedded in the package
    fashion_mnist      28 x 28, from an image folder (--config.data.folder)
    cifar10_resnet18   32 x 32, the tfds name; near solo-learn's setting
    resnet18           224 px, one's own images
    resnet50           224 px, ImageNet; the paper's recipe
"""

from ml_collections import ConfigDict

from mmae_jax import augmentations, config as config_lib
from mmae_jax.recipes import data

JOINT_EMBEDDING = (
  "fashion_mnist",
  "cifar10_resnet18",
  "resnet18",
  "resnet50",
)


def joint_embedding(
  name: str,
  arg: str | None,
  *,
  augmentation: str,
  cifar: str = "solo_learn_asymmetric",
  arguments: tuple[str, ...] = JOINT_EMBEDDING,
) -> ConfigDict:
  """A two-view method's config but for its loss.

  Args:
    name: of the objective.
    arg: what stands behind the colon of --config; None is the embedded data.
    augmentation: the recipe of `augmentations` for 224 pixels.
    cifar: the one for CIFAR-10.
    arguments: all that may stand behind the colon; a config file exports the
      same names as `ARGUMENTS`, by which the tests find them.
  Returns:
    A ConfigDict.
  Raises:
    UsageError: an unknown argument; the message lists the known ones.
  """
  data.check_argument(name, arg, arguments)
  c = config_lib.base()
  c.name = name if arg is None else f"{name}-{arg}"
  c.objective.name = name
  c.views["global"].count = 2
  c.encoder.name = "resnet"
  c.objective.projector = ConfigDict()
  if arg is None:
    _digits(c)
  elif arg == "fashion_mnist":
    _fashion_mnist(c)
  elif arg == "cifar10_resnet18":
    _cifar10(c, cifar)
  else:
    c.views["global"].update(augmentations.views(augmentation))
    if arg == "resnet18":
      _own_images(c)
    else:  # resnet50, and what a config adds
      _imagenet(c)
  return c


def like_mec(c: ConfigDict, arg: str | None) -> None:
  """What Matrix-SSL takes over from MEC: heads, teacher, optimizer, probe.

  Args:
    c: of `joint_embedding`.
    arg: the same.
  """
  objective, optimizer = c.objective, c.optimizer
  objective.momentum = 0.99
  objective.projector.widths = (256, 256, 256)
  objective.predictor = ConfigDict({"widths": (64, 256)})
  optimizer.decay = "all"
  if arg in ("cifar10_resnet18", "resnet50"):
    objective.projector.widths = (2048, 2048, 2048)
    objective.predictor.widths = (512, 2048)
    optimizer.name = "sgd"
    optimizer.base_learning_rate = 0.5
  if arg == "resnet50":
    objective.momentum = 0.996
    c.batch_size = 1024
    c.epochs = 100
    optimizer.warmup = "linspace"
    optimizer.weight_decay = 1e-5
    c.evaluation.linear.base_learning_rate = 0.03
    c.evaluation.linear.epochs = 100


def _small(c: ConfigDict) -> None:
  """What the data sets for a CPU have in common."""
  c.encoder.update(depth=10, width_multiplier=0.25)
  c.optimizer.base_learning_rate = 4e-3
  c.optimizer.b2 = 0.99
  c.optimizer.weight_decay = 0.01


def _digits(c: ConfigDict) -> None:
  """1,437 training images of 8 x 8."""
  data.digits(c)
  _small(c)
  c.encoder.stem = "small"
  c.views["global"].scale = (0.5, 1.0)
  c.batch_size = 128
  c.epochs = 120
  c.optimizer.warmup_epochs = 5.0
  c.evaluation.every_epochs = 20.0
  c.evaluation.linear.scale = (0.5, 1.0)
  c.checkpoint.every_epochs = 20.0
  c.logging.log_every_steps = 44


def _fashion_mnist(c: ConfigDict) -> None:
  data.fashion_mnist(c)
  _small(c)
  # A quarter of the small stem's time for 28 x 28.
  c.encoder.stem = "imagenet"
  view = c.views["global"]
  view.scale = (0.3, 1.0)
  view.photometry.update(
    augmentations.photometry(
      "simsiam", saturation=0.0, hue=0.0, grey=0.0, blur=0.0
    )
  )
  c.batch_size = 128
  c.epochs = 4
  c.optimizer.warmup_epochs = 0.5
  c.evaluation.every_epochs = 4.0
  c.evaluation.max_train_images = 20_000
  c.checkpoint.every_epochs = 2.0
  c.logging.log_every_steps = 50


def _cifar10(c: ConfigDict, augmentation: str) -> None:
  """Near solo-learn's setting, where a method does not say otherwise.

  Known to differ: its BYOL copies the target at the start, its MoCo v3 moves
  the teacher after the step and has augmentations of its own.
  """
  data.cifar10(c)
  c.views["global"].update(augmentations.views(augmentation))
  c.encoder.update(depth=18, stem="small", zero_init_last=False)
  c.batch_size = 256
  c.epochs = 1000
  c.optimizer.name = "lars"
  c.optimizer.trust = 0.02
  c.optimizer.larc = True
  c.optimizer.larc_clip = True
  c.optimizer.adapt = "matrices"
  c.optimizer.weight_decay = 1e-4
  c.optimizer.warmup_epochs = 10.0  # recollection, not verified
  c.evaluation.every_epochs = 50.0
  c.checkpoint.every_epochs = 50.0
  c.logging.log_every_steps = 50


def _own_images(c: ConfigDict) -> None:
  """224 pixels; ImageNet's mean and deviation are kept."""
  c.data.name = ""  # needs --config.data.folder
  c.encoder.update(depth=18, stem="imagenet")
  c.batch_size = 256
  c.epochs = 200
  c.optimizer.name = "sgd"
  c.optimizer.base_learning_rate = 0.06
  c.optimizer.weight_decay = 1e-4
  c.optimizer.warmup_epochs = 10.0
  c.evaluation.every_epochs = 20.0


def _imagenet(c: ConfigDict) -> None:
  """What the ImageNet recipes have in common."""
  data.imagenet(c)
  c.encoder.update(depth=50, stem="imagenet")
  c.optimizer.warmup_epochs = 10.0
  c.evaluation.every_epochs = 10.0
  c.checkpoint.every_epochs = 10.0
  c.logging.log_every_steps = 50
  # SimSiam's and Matrix-SSL's; the head has a BatchNorm, as Matrix-SSL's has
  # and SimSiam's has not.
  c.evaluation.linear.form = "probe"
  c.evaluation.linear.batch_size = 4096
  c.evaluation.linear.warmup_epochs = 0.0
