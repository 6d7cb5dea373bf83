"""The keys that every config shares, their checks, and a run's identity."""

from collections.abc import Mapping
import hashlib
import json

from ml_collections import ConfigDict

from mmae_jax.types import UsageError

# Keys that do not change the mathematics: a run may be continued with other
# values of them, so they are left out of its identity.
_OUTSIDE_IDENTITY = (
  "name",
  "evaluation",
  "logging",
  "checkpoint",
  "mesh",
  "microbatches",
  "data.dir",
  "data.workers",
  "data.threads",
  "data.cache_gib",
  "encoder.remat",
)
_POOLS = ("cls", "mean")
_FORMS = ("logistic", "probe", "none")


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

  c.encoder = ConfigDict()
  c.encoder.name = "vit"
  c.encoder.width = 64
  c.encoder.depth = 4
  c.encoder.heads = 4
  c.encoder.mlp_ratio = 4.0
  c.encoder.patch_size = 16
  c.encoder.dtype = "float32"
  c.encoder.remat = False

  c.objective = ConfigDict()

  c.optimizer = ConfigDict()
  c.optimizer.name = "adamw"
  c.optimizer.base_learning_rate = 1.5e-4  # times batch_size / 256
  c.optimizer.min_learning_rate = 0.0
  c.optimizer.warmup_epochs = 40.0
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.95
  c.optimizer.eps = 1e-8
  c.optimizer.weight_decay = 0.05
  c.optimizer.clip_norm = 0.0  # 0 is off

  c.probe = ConfigDict()
  c.probe.enabled = True
  c.probe.learning_rate = 1e-3

  c.evaluation = ConfigDict()
  c.evaluation.every_epochs = 10.0
  c.evaluation.pool = "cls"  # or "mean" of the patch tokens
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

  c.logging = ConfigDict()
  c.logging.log_every_steps = 20
  c.logging.tensorboard = True

  c.checkpoint = ConfigDict()
  c.checkpoint.every_epochs = 10.0
  c.checkpoint.keep = 3

  c.mesh = ConfigDict({"data": -1, "fsdp": 1})
  return c


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
  """The flattened keys that decide what a run computes."""
  return {
    key: value
    for key, value in sorted(flatten(config).items())
    if not any(
      key == out or key.startswith(out + ".") for out in _OUTSIDE_IDENTITY
    )
  }


def digest(config: Mapping) -> str:
  """8 hex digits of the identity, for the name of a run's folder."""
  text = json.dumps(identity(config), sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def differing_keys(old: Mapping, new: Mapping) -> list[str]:
  """Lines "key: old -> new" for identity keys that are not the same."""
  old, new = identity(old), identity(new)
  absent = "(absent)"
  return [
    f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key, absent) != new.get(key, absent)
  ]


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


def _require(ok, key, value, expected):
  if not ok:
    raise UsageError(f"--config.{key}={value}: must be {expected}")


def _check_data_fits(config):
  """Refuses own images for the embedded digits' model, and the reverse."""
  data = config.data
  if not data.folder and not data.name:
    raise UsageError(
      "--config.data.folder is empty: this config has no data of its own; give"
      " --config.data.folder=/my/images, or a tfds data set by"
      " --config.data.name=NAME"
    )
  foreign = data.folder or data.name != "digits"
  if not foreign or config.views["global"].size > 8:
    return
  key, value = ("folder", data.folder) if data.folder else ("name", data.name)
  raise UsageError(
    f"--config.data.{key}={value}: this model is for the embedded images of"
    " 8 x 8 pixels; for your own of 224 x 224 (vit_ti8: 64 x 64, on a laptop):"
    f"\n  python launch/train.py --config=configs/{config.objective.name}.py"
    f":vit_s16 --config.data.{key}={value}"
  )


def check(config: ConfigDict) -> None:
  """Raises UsageError for values that no run can use.

  What depends on the dataset, the devices or the objective, and the views, is
  checked where those are read, still before anything compiles.
  """
  positive = "positive"
  _require(
    config.name, "name", repr(config.name), "a name for the run's folder"
  )
  _require(config.epochs > 0, "epochs", config.epochs, f"{positive}: 0 steps")
  _require(0 <= config.seed < 2**32, "seed", config.seed, "in [0, 2^32)")
  for key in ("batch_size", "microbatches"):
    _require(config[key] >= 1, key, config[key], "at least 1")
  _require(
    config.batch_size % config.microbatches == 0,
    "microbatches",
    config.microbatches,
    f"a divisor of --config.batch_size={config.batch_size}",
  )
  data = config.data
  for key in ("holdout", "max_rejected"):
    _require(0 <= data[key] < 1, f"data.{key}", data[key], "in [0, 1)")
  for key in ("threads", "workers"):
    _require(data[key] >= 0, f"data.{key}", data[key], "at least 0")
  _check_data_fits(config)
  optimizer = config.optimizer
  for key in ("base_learning_rate", "eps"):
    _require(optimizer[key] > 0, f"optimizer.{key}", optimizer[key], positive)
  for key in ("min_learning_rate", "weight_decay", "clip_norm"):
    _require(
      optimizer[key] >= 0, f"optimizer.{key}", optimizer[key], "at least 0"
    )
  _require(
    0 <= optimizer.warmup_epochs <= config.epochs,
    "optimizer.warmup_epochs",
    optimizer.warmup_epochs,
    f"between 0 and --config.epochs={config.epochs}",
  )
  for key in ("b1", "b2"):
    _require(
      0 <= optimizer[key] < 1, f"optimizer.{key}", optimizer[key], "in [0, 1)"
    )
  for key in ("evaluation.every_epochs", "checkpoint.every_epochs"):
    section, name = key.split(".")
    _require(config[section][name] > 0, key, config[section][name], positive)
  _require(
    config.checkpoint.keep >= 1,
    "checkpoint.keep",
    config.checkpoint.keep,
    "at least 1",
  )
  _require(
    config.logging.log_every_steps >= 1,
    "logging.log_every_steps",
    config.logging.log_every_steps,
    "at least 1",
  )
  check_evaluation(config.evaluation)


def check_evaluation(evaluation: ConfigDict) -> None:
  """Raises UsageError for values that no evaluation can use."""
  linear, knn = evaluation.linear, evaluation.knn
  for key, value, ok, expected in (
    ("pool", evaluation.pool, evaluation.pool in _POOLS, " or ".join(_POOLS)),
    ("linear.form", linear.form, linear.form in _FORMS, " or ".join(_FORMS)),
    ("linear.c", linear.c, linear.c > 0, "positive"),
    ("knn.k", knn.k, knn.k >= 1, "at least 1"),
    ("knn.temperature", knn.temperature, knn.temperature > 0, "positive"),
    (
      "batch_size",
      evaluation.batch_size,
      evaluation.batch_size >= 1,
      "positive",
    ),
  ):
    _require(ok, f"evaluation.{key}", value, expected)
