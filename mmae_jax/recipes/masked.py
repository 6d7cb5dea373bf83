"""What the configs of the masked autoencoders share.

A config is `recipes.masked(name, arg)` and what is its own. The named sizes:

    (none)         scikit-learn's digits, 8 x 8, embedded in the package
    fashion_mnist  28 x 28, from an image folder (--config.data.folder)
    cifar10        32 x 32, the tfds name
    vit_ti8        64 px, one's own images on a laptop
    vit_s16        224 px, one's own images
    vit_b16 vit_l16 vit_h14   224 px, ImageNet
"""

from ml_collections import ConfigDict

from mmae_jax import config as config_lib
from mmae_jax.models import vit_size
from mmae_jax.recipes import data

MASKED = (
  "fashion_mnist",
  "cifar10",
  "vit_ti8",
  "vit_s16",
  "vit_b16",
  "vit_l16",
)


def masked(name: str, arg: str | None, *, arguments: tuple[str, ...] = MASKED):
  """A masked autoencoder's config but for its regulariser.

  Args:
    name: of the objective.
    arg: what stands behind the colon of --config; None is the embedded data.
    arguments: all that may stand there; a config file exports the same names
      as `ARGUMENTS`, by which the tests find them.
  Returns:
    A ConfigDict.
  Raises:
    UsageError: an unknown argument; the message lists the known ones.
  """
  data.check_argument(name, arg, arguments)
  c = config_lib.base()
  c.name = name if arg is None else f"{name}-{arg}"
  c.objective.name = name
  c.objective.mask_ratio = 0.75
  c.objective.normalise_patches = True
  if arg is None:
    _digits(c)
  elif arg in ("fashion_mnist", "cifar10"):
    _small_images(c, arg)
  elif arg in ("vit_ti8", "vit_s16"):
    _own_images(c, arg)
  else:
    _imagenet(c, arg)
  return c


def _decoder(c: ConfigDict, width: int, depth: int, heads: int) -> None:
  c.objective.decoder_width = width
  c.objective.decoder_depth = depth
  c.objective.decoder_heads = heads


def _digits(c: ConfigDict) -> None:
  """1,437 training images of 8 x 8; 16 patches, of which 4 are seen."""
  data.digits(c)
  c.views["global"].scale = (0.6, 1.0)
  c.encoder.update(width=64, depth=4, heads=4, patch_size=2)
  _decoder(c, 32, 1, 4)
  c.batch_size = 64  # many small steps: here they learn more per second
  c.epochs = 120
  c.optimizer.base_learning_rate = 0.012
  c.optimizer.warmup_epochs = 10.0
  c.evaluation.every_epochs = 12.0
  c.checkpoint.every_epochs = 12.0
  c.logging.log_every_steps = 44
  c.evaluation.linear.scale = (0.6, 1.0)


def _small_images(c: ConfigDict, arg: str) -> None:
  if arg == "fashion_mnist":
    data.fashion_mnist(c)
  else:
    data.cifar10(c)
  c.views["global"].scale = (0.5, 1.0)
  c.encoder.update(width=64, depth=4, heads=4, patch_size=4)
  _decoder(c, 32, 1, 4)
  c.batch_size = 128
  c.epochs = 10
  c.optimizer.base_learning_rate = 4e-3
  c.optimizer.warmup_epochs = 1.0
  c.evaluation.every_epochs = 2.0
  c.evaluation.max_train_images = 20_000
  c.checkpoint.every_epochs = 2.0
  c.logging.log_every_steps = 50


def _own_images(c: ConfigDict, arg: str) -> None:
  """One's own images; ImageNet's mean and deviation are kept."""
  size = arg.removeprefix("vit_")
  c.data.name = ""  # needs --config.data.folder
  c.views["global"].size = 64 if arg == "vit_ti8" else 224
  c.encoder.update(vit_size(size))
  if arg == "vit_ti8":
    _decoder(c, 96, 2, 3)
  else:
    _decoder(c, 256, 4, 8)
  c.batch_size = 256
  c.epochs = 200
  c.optimizer.warmup_epochs = 20.0
  c.evaluation.every_epochs = 20.0


def _imagenet(c: ConfigDict, arg: str) -> None:
  """What the ImageNet recipes of MAE, U-MAE and M-MAE have in common."""
  data.imagenet(c)
  c.encoder.update(vit_size(arg.removeprefix("vit_")))
  c.encoder.dtype = "bfloat16"
  _decoder(c, 512, 8, 16)
  c.optimizer.base_learning_rate = 1.5e-4
  c.optimizer.warmup_epochs = 40.0
  c.evaluation.every_epochs = 20.0
  c.checkpoint.every_epochs = 20.0
  c.logging.log_every_steps = 50
  c.evaluation.linear.form = "probe"
  c.evaluation.linear.optimizer = "lars"
  c.evaluation.linear.epochs = 90
  c.evaluation.linear.warmup_epochs = 10.0
