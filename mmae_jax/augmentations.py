"""Published augmentations, as data for config files.

`views(name)` is a whole view but for its size and number, `photometry(name)`
its colours alone:

    c.views["global"].update(augmentations.views("byol"))
    c.views["global"].photometry.update(augmentations.photometry("simsiam"))

A tuple has one entry for each of two views; other numbers count for any number
of views. All entries are as the authors' programs have them unless a comment
says otherwise. What differs here for all: crops are cut and resized on the
host by Pillow, antialiased, where SimCLR and BYOL resize in TensorFlow without
antialiasing; a flip comes with the crop, where MoCo, SimSiam and MEC flip
last, which is the same but for a blur's rounding; and colours are not rounded
to 8 bits between the operations.
"""

from typing import Any

from mmae_jax.types import UsageError

_OFF = {
  "jitter": 0.0,
  "brightness": 0.0,
  "contrast": 0.0,
  "saturation": 0.0,
  "hue": 0.0,
  "grey": 0.0,
  "blur": 0.0,
  "solarise": 0.0,
  "sigma_low": 0.1,
  "sigma_high": 2.0,
  "threshold": 128 / 255,  # Pillow's
  "order": "random",
  "brightness_form": "multiplicative",
  "forms": "pillow",
  "blur_kernel": "pillow",
  "sigma_of": "image",
}
_TENSORFLOW = {
  "forms": "tensorflow",
  "blur_kernel": "gaussian",
  "threshold": 0.5,
}


def _jitter(brightness, contrast, saturation, hue):
  return {
    "jitter": 0.8,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
    "grey": 0.2,
  }


_STRONG = _jitter(0.8, 0.8, 0.8, 0.2)
_WEAK = _jitter(0.4, 0.4, 0.4, 0.1)
_BYOL = _jitter(0.4, 0.4, 0.2, 0.1)
_ASYMMETRIC = {**_BYOL, "blur": (1.0, 0.1), "solarise": (0.0, 0.2)}

_PHOTOMETRY = {
  # google-research/simclr, data_util.py: brightness of "simclrv2"; the blur's
  # sigma is drawn once for a batch and view.
  "simclr": {**_STRONG, **_TENSORFLOW, "blur": 0.5, "sigma_of": "batch"},
  # The same, by the README's command for CIFAR-10: strength 0.5, no blur.
  "simclr_cifar10": {**_jitter(0.4, 0.4, 0.4, 0.1), **_TENSORFLOW},
  # deepmind-research/byol, utils/augmentations.py.
  "byol": {**_ASYMMETRIC, **_TENSORFLOW, "brightness_form": "additive"},
  # facebookresearch/moco-v3, barlowtwins, vicreg and dino, xinliu20/MEC: BYOL's
  # recipe in torchvision and Pillow. Matrix-SSL states that it follows MEC.
  "asymmetric": _ASYMMETRIC,
  # facebookresearch/moco --aug-plus and simsiam; the spectral contrastive
  # program for ImageNet (on CIFAR it has no blur).
  "moco_v2": {**_WEAK, "blur": 0.5},
  # facebookresearch/swav: one recipe for all crops.
  "swav": {**_STRONG, "blur": 0.5},
  # facebookresearch/dino: the crops for the student alone.
  "dino_local": {**_BYOL, "blur": 0.5},
  # solo-learn on CIFAR, scripts/pretrain/cifar/*.sh, to which its published
  # numbers belong. The later augmentations/symmetric*.yaml of the same folder
  # blur with probability 0.5; the asymmetric ones do not.
  "solo_learn_symmetric": _STRONG,
  "solo_learn_symmetric_weak": _WEAK,
  "solo_learn_asymmetric": {**_BYOL, "solarise": (0.0, 0.2)},
  "solo_learn_vicreg": {**_BYOL, "solarise": 0.1},
}

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # pixels stay in [0, 1]

# name: (photometry, lowest and highest share of the area, interpolation,
#        (mean, std)).
_VIEWS = {
  "simclr": ("simclr", (0.08, 1.0), "bicubic", _UNIT),
  "simclr_cifar10": ("simclr_cifar10", (0.08, 1.0), "bicubic", _UNIT),
  "byol": ("byol", (0.08, 1.0), "bicubic", _IMAGENET),
  "moco_v2": ("moco_v2", (0.2, 1.0), "bilinear", _IMAGENET),
  "moco_v3": ("asymmetric", (0.2, 1.0), "bilinear", _IMAGENET),  # ResNet-50
  "moco_v3_vit": ("asymmetric", (0.08, 1.0), "bilinear", _IMAGENET),
  "simsiam": ("moco_v2", (0.2, 1.0), "bilinear", _IMAGENET),
  "spectral_contrastive": ("moco_v2", (0.2, 1.0), "bilinear", _IMAGENET),
  "barlow_twins": ("asymmetric", (0.08, 1.0), "bicubic", _IMAGENET),
  "vicreg": ("asymmetric", (0.08, 1.0), "bicubic", _IMAGENET),
  "mec": ("asymmetric", (0.2, 1.0), "bilinear", _IMAGENET),
  "matrix_ssl": ("asymmetric", (0.2, 1.0), "bilinear", _IMAGENET),
  # ViT; the program's ResNet-50 command cuts (0.14, 1) and (0.05, 0.14).
  "dino": ("asymmetric", (0.4, 1.0), "bicubic", _IMAGENET),
  "dino_local": ("dino_local", (0.05, 0.4), "bicubic", _IMAGENET),
  # With the 96-pixel crops; two crops alone cut (0.08, 1). Red's deviation is
  # .228 in the authors' program.
  "swav": (
    *("swav", (0.14, 1.0), "bilinear"),
    (_IMAGENET[0], (0.228, 0.224, 0.225)),
  ),
  "swav_local": (
    *("swav", (0.05, 0.14), "bilinear"),
    (_IMAGENET[0], (0.228, 0.224, 0.225)),
  ),
  **{
    name: (name, (0.08, 1.0), "bicubic", _CIFAR10)
    for name in (
      "solo_learn_symmetric",
      "solo_learn_symmetric_weak",
      "solo_learn_asymmetric",
    )
  },
  "solo_learn_vicreg": (
    *("solo_learn_vicreg", (0.2, 1.0), "bicubic"),
    _CIFAR10,
  ),
}


def names() -> list[str]:
  """The recipes that `photometry` and `views` know."""
  return sorted(_VIEWS)


def photometry(name: str, **changes: Any) -> dict[str, Any]:
  """The colours of a published recipe.

  Args:
    name: one of `names()`.
    **changes: other values for some keys.
  Returns:
    All keys of `config.views[...].photometry`.
  Raises:
    UsageError: no recipe or key of that name.
  """
  if unknown := changes.keys() - _OFF.keys():
    raise UsageError(
      f"photometry has no {', '.join(sorted(unknown))}; it has"
      f" {', '.join(_OFF)}"
    )
  return {**_OFF, **_PHOTOMETRY[_entry(name)[0]], **changes}


def views(name: str) -> dict[str, Any]:
  """A published recipe but for the views' number and size.

  Args:
    name: one of `names()`.
  Returns:
    Keys of `config.views[...]`: scale, ratio, flip, interpolation, mean, std
    and photometry.
  Raises:
    UsageError: no recipe of that name.
  """
  _, scale, interpolation, (mean, std) = _entry(name)
  return {
    "scale": scale,
    "ratio": (3 / 4, 4 / 3),
    "flip": 0.5,
    "interpolation": interpolation,
    "mean": mean,
    "std": std,
    "photometry": photometry(name),
  }


def _entry(name):
  if name not in _VIEWS:
    raise UsageError(f"no augmentation {name!r}; there are {names()}")
  return _VIEWS[name]
