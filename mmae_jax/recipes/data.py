"""Data sets that the configs of all methods know, and how they are read."""

from ml_collections import ConfigDict

from mmae_jax.types import UsageError


def check_argument(
  name: str, arg: str | None, arguments: tuple[str, ...]
) -> None:
  """Raises UsageError unless a config takes `arg` behind its colon."""
  if arg is not None and arg not in arguments:
    raise UsageError(
      f"--config=configs/{name}.py:{arg}: no such argument; it takes "
      + ", ".join(arguments)
      + ", or none for the embedded digits"
    )


def digits(c: ConfigDict) -> None:
  """scikit-learn's digits: 1,437 training images of 8 x 8, embedded."""
  view = c.views["global"]
  view.size = 8
  view.flip = 0.0  # a mirrored digit is another digit
  view.mean = (0.305, 0.305, 0.305)
  view.std = (0.376, 0.376, 0.376)


def fashion_mnist(c: ConfigDict) -> None:
  """28 x 28, from an image folder; needs --config.data.folder."""
  c.data.name = ""
  view = c.views["global"]
  view.size = 28
  view.mean = (0.286, 0.286, 0.286)
  view.std = (0.353, 0.353, 0.353)


def cifar10(c: ConfigDict) -> None:
  """CIFAR-10, 32 x 32, by its name in tfds."""
  c.data.name = "cifar10"
  view = c.views["global"]
  view.size = 32
  view.mean = (0.4914, 0.4822, 0.4465)
  view.std = (0.2470, 0.2435, 0.2616)


def imagenet(c: ConfigDict) -> None:
  """ImageNet-1k, by its name in tfds."""
  c.data.name = "imagenet2012"
  c.data.test_split = "validation"
  c.data.workers = 16
