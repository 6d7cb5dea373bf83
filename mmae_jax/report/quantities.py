"""How a recorded quantity is named, coloured and written with its unit."""

from collections.abc import Mapping
import math
from typing import NamedTuple

BLUE, TEAL, ORANGE, PURPLE = "#2461a8", "#0b7f78", "#c4601d", "#6b4bb0"
ROSE, SLATE, GREEN, RED = "#b03a6c", "#566273", "#2c8a4b", "#c23b3b"
INK, MUTED, GRID, FIRST = "#1b2430", "#697586", "#e6e9ee", "#9aa5b4"


class Quantity(NamedTuple):
  """What people read: a name, a unit, a colour, how to read it.

  Attributes:
    label: the name.
    unit: "" is none, "%" a share.
    colour: of its line.
    note: stands below its figure; may be empty.
  """

  label: str
  unit: str
  colour: str
  note: str = ""


QUANTITIES: Mapping[str, Quantity] = {
  "loss": Quantity("Loss", "", BLUE),
  "reconstruction": Quantity("Reconstruction error", "", TEAL),
  "regulariser": Quantity("Regulariser", "", ORANGE),
  "weighted_regulariser": Quantity("Weighted regulariser", "", ORANGE),
  "effective_weight": Quantity("Weight of the regulariser", "", ORANGE),
  "invariance": Quantity("Invariance", "", TEAL),
  "variance": Quantity("Variance", "", ORANGE),
  "covariance": Quantity("Covariance", "", PURPLE),
  "on_diagonal": Quantity("On the diagonal", "", TEAL),
  "off_diagonal": Quantity("Off the diagonal", "", ORANGE),
  "attraction": Quantity("Attraction", "", TEAL),
  "repulsion": Quantity("Repulsion", "", ORANGE),
  "alignment": Quantity("Alignment", "", TEAL),
  "uniformity": Quantity("Uniformity", "", ORANGE),
  "embedding_std": Quantity(
    "Spread of the embeddings",
    "",
    ROSE,
    "Standard deviation of unit rows times the root of their dimension: 0 is"
    " collapse, about 1 the sphere filled evenly.",
  ),
  "momentum": Quantity(
    "Teacher's momentum", "", SLATE, "1 leaves the teacher as it is."
  ),
  "er_entropy": Quantity("Entropy", "nats", ORANGE),
  "er_uniform_entropy": Quantity("Entropy of uniform rows", "nats", SLATE),
  "er_reconstruction": Quantity("Reconstruction loss", "nats", TEAL),
  "er_bound": Quantity(
    "ER bound", "nats", PURPLE, "Entropy minus reconstruction; to be maximised."
  ),
  "er_ceiling": Quantity("Ceiling of the ER bound", "nats", SLATE),
  "teacher_temperature": Quantity("Teacher's temperature", "", SLATE),
  "clustered": Quantity("Images that have a cluster", "%", SLATE),
  "lambda_inverse": Quantity("Lambda inverse", "", ORANGE),
  "grad_norm": Quantity("Gradient norm", "", SLATE),
  "learning_rate": Quantity("Learning rate", "", SLATE),
  "probe_loss": Quantity("Online probe loss", "nats", BLUE),
  "probe_accuracy": Quantity("Online probe", "%", FIRST),
  "knn_accuracy": Quantity("k-NN", "%", PURPLE),
  "linear_accuracy": Quantity("Linear", "%", BLUE),
  "effective_rank": Quantity("Effective rank", "", ROSE),
  "matrix_entropy": Quantity("Matrix entropy", "nats", ROSE),
  "images_per_second": Quantity("Speed", "images/s", TEAL),
  "data_wait": Quantity("Waiting for data", "%", ORANGE),
}

# Only here are they information quantities with a unit.
_IN_NATS = {
  "mmae": ("regulariser", "weighted_regulariser"),
  "simclr": ("loss",),
  "moco_v2": ("loss",),
  "dino": ("loss",),
  "swav": ("loss",),
  "deepcluster": ("loss",),
  "simclr_er": ("loss",),
  "byol_er": ("loss",),
  "dino_er": ("loss",),
  "swav_er": ("loss",),
  "deepcluster_er": ("loss",),
}
# Terms that are recorded without the weight they have in the loss.
_UNWEIGHTED = {
  "barlow_twins": ("off_diagonal",),
  "vicreg": ("invariance", "variance", "covariance"),
  "matrix_ssl": ("alignment", "uniformity"),
}
_METHODS = {
  "mae": "MAE",
  "umae": "U-MAE",
  "mmae": "M-MAE",
  "barlow_twins": "Barlow Twins",
  "spectral_contrastive": "Spectral contrastive",
  "simclr": "SimCLR",
  "vicreg": "VICReg",
  "simsiam": "SimSiam",
  "byol": "BYOL",
  "moco_v2": "MoCo v2",
  "moco_v3": "MoCo v3",
  "mec": "MEC",
  "matrix_ssl": "Matrix-SSL",
  "dino": "DINO",
  "swav": "SwAV",
  "deepcluster": "DeepCluster-v2",
  "simclr_er": "SimCLR+ER",
  "byol_er": "BYOL+ER",
  "dino_er": "DINO+ER",
  "swav_er": "SwAV+ER (ours)",
  "deepcluster_er": "DeepCluster+ER (ours)",
}


def quantity(name: str, *, objective: str = "") -> Quantity:
  """The quantity called `name`; an unknown one is named after itself.

  Args:
    name: the key in metrics.jsonl.
    objective: the method's name, which settles some units and notes.
  Returns:
    The Quantity.
  """
  known = QUANTITIES.get(name)
  if known is None:
    unit = "%" if name.endswith("accuracy") else ""
    label = name.replace("_", " ").replace("/", " / ")
    return Quantity(label[:1].upper() + label[1:], unit, SLATE)
  if name in _IN_NATS.get(objective, ()):
    return known._replace(unit="nats")
  if name in _UNWEIGHTED.get(objective, ()):
    return known._replace(note="Without its weight.")
  return known


def method_name(name: str) -> str:
  """A method as its paper writes it, as far as we know."""
  return _METHODS.get(name, name or "unknown method")


def readable(value: float | None, unit: str) -> str:
  """A value with its unit in four digits: "97.2 %", "12,340 images/s"."""
  if value is None or not math.isfinite(value):
    return "not finite"
  if unit == "%":
    return f"{100 * value:.1f} %"
  text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
  if unit == "images/s":
    text = f"{value:,.0f}"
  return f"{text} {unit}".rstrip()


def compact(value: float, *, largest: float | None = None) -> str:
  """A tick label that stays short: 0.05, 800, 5,200, 12k, 1.5M.

  Args:
    value: the tick.
    largest: the largest value of the axis, so that all its labels are alike.
  Returns:
    The label.
  """
  largest = max(abs(value), abs(largest or 0.0))
  for size, least, letter in (
    (1e9, 1e9, "G"),
    (1e6, 1e6, "M"),
    (1e3, 1e4, "k"),
  ):
    if largest >= least:
      return f"{value / size:.4g}{letter}" if value else "0"
  return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def scaled(value: float, unit: str, *, base: int = 1000) -> str:
  """A large value with a prefix: "1.20 GFLOP", "512 MiB"."""
  prefixes = ("", "k", "M", "G", "T", "P")
  if base == 1024:
    prefixes = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
  power = 0
  while abs(value) >= base and power < len(prefixes) - 1:
    value, power = value / base, power + 1
  return f"{value:.3g} {prefixes[power]}{unit}"
