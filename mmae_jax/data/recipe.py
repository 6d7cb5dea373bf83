"""`config.views[name].photometry`, checked once before anything compiles."""

from collections.abc import Mapping
import dataclasses
import math
import numbers
from typing import Any

from mmae_jax import types
from mmae_jax.data import blur, colour

_OFF = {
  **dict.fromkeys(("jitter", "brightness", "contrast", "saturation", "hue"), 0),
  **dict.fromkeys(("grey", "blur", "solarise"), 0),
  **{"sigma_low": 0.1, "sigma_high": 2.0, "threshold": 0.5},
}
_CHOICES = {
  "order": ("random", "fixed"),
  "brightness_form": ("multiplicative", "additive"),
  "forms": colour.FORMS,
  "blur_kernel": blur.KERNELS,
  "sigma_of": ("image", "batch"),
}
# (keys, whether a value may be used, what it must be).
_RANGES = (
  (
    ("jitter", "grey", "blur", "solarise"),
    lambda x: 0 <= x <= 1,
    "a probability, in [0, 1]",
  ),
  (
    ("brightness", "contrast", "saturation"),
    lambda x: 0 <= x < math.inf,
    "at least 0; 0 is off",
  ),
  (("hue",), lambda x: 0 <= x <= 0.5, "in [0, 0.5] turns; 0 is off"),
  (
    ("sigma_low", "sigma_high"),
    lambda x: 0 < x < math.inf,
    "a positive number of pixels",
  ),
  (("threshold",), lambda x: 0 <= x <= 1, "in [0, 1]"),
)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """The photometry of one kind of view; a tuple has one entry a view.

  Attributes:
    name: of the kind.
    count: views of this kind per image.
    jitter: probability that the next four are applied.
    brightness: b: a factor from U[max(0, 1 - b), 1 + b], or, if additive, a
      shift from U[-b, b].
    contrast: c: a factor from U[max(0, 1 - c), 1 + c].
    saturation: as contrast.
    hue: h: a shift from U[-h, h], in turns.
    grey: probability.
    blur: probability.
    solarise: probability.
    sigma_low: lowest standard deviation of the blur, pixels.
    sigma_high: the highest.
    threshold: of solarise, of pixels in [0, 1].
    order: "random" for each image, or "fixed": as the four stand above.
    brightness_form: "multiplicative" or "additive".
    forms: of contrast, saturation and grey: "pillow" or "tensorflow".
    blur_kernel: "pillow" or "gaussian".
    sigma_of: "image", or "batch": all images of a step share a view's sigma.
  """

  name: str
  count: int
  jitter: tuple[float, ...]
  brightness: tuple[float, ...]
  contrast: tuple[float, ...]
  saturation: tuple[float, ...]
  hue: tuple[float, ...]
  grey: tuple[float, ...]
  blur: tuple[float, ...]
  solarise: tuple[float, ...]
  sigma_low: tuple[float, ...]
  sigma_high: tuple[float, ...]
  threshold: tuple[float, ...]
  order: str
  brightness_form: str
  forms: str
  blur_kernel: str
  sigma_of: str

  @property
  def jitters(self) -> bool:
    """Whether any view is jittered."""
    strengths = (self.brightness, self.contrast, self.saturation, self.hue)
    return any(self.jitter) and any(map(any, strengths))

  @property
  def hue_last(self) -> bool:
    """Whether no view has its hue turned before the rest of its jitter."""
    return self.order == "fixed" or not any(self.hue)

  @property
  def is_on(self) -> bool:
    """Whether anything is to be done to the colours."""
    return self.jitters or any(map(any, (self.grey, self.blur, self.solarise)))


def read_recipe(name: str, view: Mapping[str, Any]) -> Recipe:
  """Checks the photometry of one kind of view.

  Args:
    name: of the kind.
    view: `config.views[name]`; count and photometry are read. A run of a
      version without photometry has none, which is all off.
  Returns:
    The Recipe.
  Raises:
    UsageError: an unknown key, not one value a view, or one out of its range.
  """
  photometry = view.get("photometry") or {}
  flag = f"--config.views.{name}.photometry"
  known = [*_OFF, *_CHOICES]
  for key in photometry:
    if key not in known:
      raise types.UsageError(
        f"{flag}.{key}={photometry[key]}: no such key; there are"
        f" {', '.join(known)}"
      )
  values = {
    key: _per_view(f"{flag}.{key}", photometry.get(key, off), view["count"])
    for key, off in _OFF.items()
  }
  for keys, ok, expected in _RANGES:
    for key in keys:
      if not all(map(ok, values[key])):
        raise types.UsageError(
          f"{flag}.{key}={photometry[key]}: must be {expected}"
        )
  for low, high in zip(values["sigma_low"], values["sigma_high"], strict=True):
    if low > high:
      raise types.UsageError(
        f"{flag}.sigma_low={low}: is above sigma_high={high}"
      )
  for key, choices in _CHOICES.items():
    values[key] = photometry.get(key, choices[0])
    if values[key] not in choices:
      raise types.UsageError(
        f"{flag}.{key}={values[key]}: must be {' or '.join(choices)}"
      )
  return Recipe(name=name, count=view["count"], **values)


def _per_view(flag, value, count):
  """A number or a tuple -> a tuple of `count` floats."""
  entries = value if isinstance(value, tuple | list) else (value,) * count
  is_number = [
    isinstance(x, numbers.Real) and not isinstance(x, bool) for x in entries
  ]
  if not all(is_number):
    raise types.UsageError(
      f"{flag}={value}: must be a number, or a tuple with one for each view"
    )
  if len(entries) != count:
    raise types.UsageError(
      f"{flag}={value}: has {len(entries)} entries; the views' count is {count}"
    )
  return tuple(map(float, entries))
