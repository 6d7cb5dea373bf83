"""The keys that every config shares, and a run's identity."""

from collections.abc import Mapping
import hashlib
import json

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

# Keys that do not change the mathematics: a run may be continued with other
# values of them, so they are left out of its identity.
_OUTSIDE_IDENTITY = (
  "name",
  "evaluation",
  "plane",
  "on_alarm",
  "alarms",
  "logging",
  "checkpoint",
  "mesh",
  "microbatches",
  "data.dir",
  "data.workers",
  "data.threads",
  "data.cache_gib",
  "encoder.remat",
  # Of language models: what a trained one is asked (their results keep it), and
  # what only memory depends on.
  "data.test",
  "data.task",
  "data.test_limit",
  "model.remat",
  "loss.chunk",
)


def base() -> ConfigDict:
  """The defaults that a config file starts from.

  Returns:
    A ConfigDict; a config sets at least `name`, `encoder` and `objective`.
  """
  c = ConfigDict()
  c.name = ""
  c.seed = 0
  c.batch_size = 256
  c.epochs = 100.0
  c.microbatches = 1
  c.init_from = ""

  c.data = ConfigDict()
  c.data.name = "digits"
  c.data.dir = ""  # where tfds keeps its data; empty: ~/tensorflow_datasets
  c.data.folder = ""  # one's own images; wins over `name`
  c.data.train_split = "train"
  c.data.test_split = "test"
  c.data.holdout = 0.05  # of a folder without val/ or test/
  c.data.max_rejected = 0.01  # share of unreadable files that is tolerated
  c.data.cache_gib = 2.0  # a smaller split is decoded once, into memory
  c.data.threads = 4
  c.data.workers = 0

  c.views = ConfigDict()
  c.views["global"] = ConfigDict()
  view = c.views["global"]
  view.count = 1
  view.size = 224
  view.scale = (0.2, 1.0)
  view.ratio = (3 / 4, 4 / 3)
  view.flip = 0.5
  view.interpolation = "bicubic"
  view.retry = True  # False clips a box that does not fit to the image
  view.mean = (0.485, 0.456, 0.406)
  view.std = (0.229, 0.224, 0.225)
  view.photometry = _photometry()

  c.encoder = ConfigDict()
  c.encoder.name = "vit"  # or "resnet"
  c.encoder.depth = 4  # blocks; of a ResNet 10, 18, 34, 50, 101 or 152
  c.encoder.dtype = "float32"
  c.encoder.remat = False
  # Of a ViT alone.
  c.encoder.width = 64
  c.encoder.heads = 4
  c.encoder.mlp_ratio = 4.0
  c.encoder.patch_size = 16
  c.encoder.learned_positions = False  # else fixed sines and cosines
  c.encoder.layer_norm_epsilon = 1e-6  # Hugging Face's default is 1e-12
  # Of a ResNet alone.
  c.encoder.width_multiplier = 1.0
  c.encoder.stem = "imagenet"  # or "small": 3x3, no stride, no pool; or
  # "small_padded", solo-learn's, which pads two zeros instead of one
  c.encoder.zero_init_last = True  # the last scale of each block begins at 0
  # Of BatchNorm: the share of the running statistics that is kept, what is
  # added to the variance, the rows that share statistics (0: all).
  c.encoder.norm_momentum = 0.9
  c.encoder.norm_epsilon = 1e-5
  c.encoder.group_size = 0

  c.objective = ConfigDict()

  c.optimizer = ConfigDict()
  c.optimizer.name = "adamw"  # or "sgd", "lars"
  c.optimizer.base_learning_rate = 1.5e-4  # times batch_size / 256
  c.optimizer.min_learning_rate = 0.0
  c.optimizer.first_learning_rate = 0.0  # where the warm-up begins
  c.optimizer.warmup_epochs = 40.0
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.95
  c.optimizer.eps = 1e-8
  c.optimizer.weight_decay = 0.05
  # Of adamw: where half a cosine brings the decay; None leaves it constant.
  c.optimizer.final_weight_decay = placeholder(float)
  c.optimizer.clip_norm = 0.0  # of the whole gradient; 0 is off
  c.optimizer.clip_each = 0.0  # of each tensor's (DINO); 0 is off
  c.optimizer.warmup = "from_zero"  # or "linspace": its last step is the peak
  c.optimizer.schedule_per = "step"  # or "epoch": the cosine, not the warm-up
  c.optimizer.decay = "matrices"  # or "all": biases, scales and vectors too
  c.optimizer.vector_rate = 1.0  # factor of biases', scales' and vectors' rate
  # Modules of the network with the base rate throughout: ("predictor",).
  c.optimizer.constant = ()
  c.optimizer.momentum = 0.9  # of sgd and lars
  c.optimizer.nesterov = False
  c.optimizer.adapt = "matrices"  # what lars adapts; or "all"
  c.optimizer.trust = 0.001
  c.optimizer.rate_inside_momentum = False  # True: SimCLR; see train/lars.py
  c.optimizer.larc = False  # True: apex and, with larc_clip, solo-learn
  c.optimizer.larc_clip = False

  c.probe = ConfigDict()
  c.probe.enabled = True
  c.probe.learning_rate = 1e-3

  c.evaluation = ConfigDict()
  c.evaluation.every_epochs = 10.0
  c.evaluation.network = "student"  # or "teacher", for methods that keep one
  # The feature that is evaluated: "auto" is what two-view methods train, the
  # class token of a ViT and the mean of a ResNet's map; "cls", "mean".
  c.evaluation.pool = "auto"
  c.evaluation.layer = -1
  c.evaluation.batch_size = 256
  c.evaluation.max_train_images = 50_000
  c.evaluation.max_test_images = 50_000
  c.evaluation.knn = ConfigDict({"k": 20, "temperature": 0.07})
  # The last evaluation of a run; "none" leaves the linear probe out.
  c.evaluation.linear = ConfigDict()
  c.evaluation.linear.form = "logistic"
  c.evaluation.linear.c = 1.0
  c.evaluation.linear.optimizer = "lars"
  c.evaluation.linear.base_learning_rate = 0.1
  c.evaluation.linear.batch_size = 256
  c.evaluation.linear.epochs = 90
  c.evaluation.linear.warmup_epochs = 10.0
  c.evaluation.linear.momentum = 0.9
  c.evaluation.linear.weight_decay = 0.0
  c.evaluation.linear.scale = (0.08, 1.0)  # of the random crop
  c.evaluation.linear.microbatches = 1
  c.evaluation.linear.bn_group_size = 0  # 0: statistics of the whole batch

  # The information plane. Images of the fixed probe set: of the test split if
  # that has enough (see evaluate/information.py). The sample-side entropies of
  # order 2 take size^2 * 4 bytes a branch, split over the devices; those of
  # order 1 take eigenvalues, and so every (size / sample_rows)-th image.
  c.plane = ConfigDict({"size": 2048, "sample_rows": 512})
  c.plane.every = 0.05  # share of the run between two points; 0 is off

  # "warn", or "stop": the newest checkpoint that was found healthy stays.
  c.on_alarm = "warn"
  # Thresholds; 0 switches an alarm off. See train/alarms.py.
  c.alarms = ConfigDict()
  c.alarms.collapse_rank = 1.2  # effective rank; that of a constant is 1
  c.alarms.collapse_entropy = 0.03  # nats, order 2; that of a constant is 0
  c.alarms.fall = 0.3  # of the best rank of the last `patience` measurements
  c.alarms.rank_share = 0.5  # of the run's best rank, `patience` times
  c.alarms.dead_share = 0.25  # of the dimensions
  c.alarms.patience = 3  # measurements, or log intervals
  # Features are poor in the beginning of a run; the later of these counts,
  # and the end of the learning rate's warm-up.
  c.alarms.grace = 0.1  # share of the run
  c.alarms.grace_steps = 500
  c.alarms.loss_spike = 15.0  # robust standard deviations over the median
  c.alarms.gradient_spike = 20.0
  c.alarms.spike_steps = 100  # of which that median is taken
  c.alarms.data_wait = 0.5  # share of the time, `patience` times

  c.logging = ConfigDict()
  c.logging.log_every_steps = 20
  c.logging.tensorboard = True

  c.checkpoint = ConfigDict()
  c.checkpoint.every_epochs = 10.0
  c.checkpoint.keep = 3

  c.mesh = ConfigDict({"data": -1, "fsdp": 1})
  return c


def _photometry() -> ConfigDict:
  """Colour on the device, all off; see mmae_jax/augmentations.py.

  A number counts for all views of the kind; a tuple has one for each.
  """
  c = ConfigDict()
  for key, value in (
    ("jitter", 0.0),  # probability that the next four are applied
    ("brightness", 0.0),  # strengths: a factor from U[max(0, 1 - x), 1 + x],
    ("contrast", 0.0),
    ("saturation", 0.0),
    ("hue", 0.0),  # or a shift from U[-x, x], in turns
    ("grey", 0.0),  # probabilities
    ("blur", 0.0),
    ("solarise", 0.0),
    ("sigma_low", 0.1),  # of the blur, in pixels: U[low, high]
    ("sigma_high", 2.0),
    ("threshold", 0.5),  # of solarise; brighter pixels are inverted
  ):
    c[key] = FieldReference(value, field_type=object)  # number or tuple
  c.order = "random"  # of the four, or "fixed", as they stand above
  c.brightness_form = "multiplicative"  # or "additive", of U[-x, x]
  c.forms = "pillow"  # or "tensorflow": contrast, saturation, grey
  c.blur_kernel = "pillow"  # three boxes; or "gaussian", truncated
  c.sigma_of = "image"  # or "batch": all images of a step share it
  return c


def with_global_views_alone(config: ConfigDict) -> ConfigDict:
  """A copy for what looks at no small crops: evaluation, information plane."""
  copy = config.copy_and_resolve_references()
  with copy.unlocked():
    for name, view in copy.views.items():
      if name != "global":
        view.count = 0
  return copy


def flatten(config: Mapping) -> dict[str, object]:
  """Nested keys as dotted ones: {"data.name": "digits", ...}."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, (ConfigDict, Mapping)):
      inner = flatten(value)
      flat.update({f"{key}.{k}": v for k, v in inner.items()})
      if not inner:
        flat[key] = {}
    else:
      flat[key] = list(value) if isinstance(value, tuple) else value
  return flat


def identity(config: Mapping) -> dict[str, object]:
  """The flattened keys that decide what a run computes.

  Those with the value of `base()` are left out, so that a key which a later
  version adds, and whose default is what was always done, changes nothing.
  """
  defaults = flatten(base())
  return {
    key: value
    for key, value in sorted(flatten(config).items())
    if not any(
      key == out or key.startswith(out + ".") for out in _OUTSIDE_IDENTITY
    )
    and not (key in defaults and defaults[key] == value)
  }


def digest(config: Mapping) -> str:
  """8 hex digits of the identity, for the name of a run's folder."""
  text = json.dumps(identity(config), sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def differing_keys(old: Mapping, new: Mapping) -> list[str]:
  """Lines "key: old -> new" for identity keys that are not the same."""
  keys = identity(old).keys() | identity(new).keys()
  defaults = flatten(base())
  values = [defaults | flatten(config) for config in (old, new)]
  pairs = [(key, *(v.get(key, "(absent)") for v in values)) for key in keys]
  return [f"{key}: {a} -> {b}" for key, a, b in sorted(pairs) if a != b]


def to_json(config: ConfigDict) -> str:
  """The resolved config as text that `from_json` reads back."""
  return json.dumps(config.to_dict(), indent=2, default=list) + "\n"


def from_json(text: str) -> ConfigDict:
  """The config that `to_json` wrote."""

  def tuples(value):
    if isinstance(value, dict):
      return {k: tuples(v) for k, v in value.items()}
    return tuple(value) if isinstance(value, list) else value

  return ConfigDict(tuples(json.loads(text)))
