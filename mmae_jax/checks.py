"""Values of a config that no run can use."""

from ml_collections import ConfigDict

from mmae_jax import config as config_lib
from mmae_jax.types import UsageError

_POOLS = ("auto", "cls", "mean")
_FORMS = ("logistic", "probe", "none")
_NETWORKS = ("student", "teacher")
_ON_ALARM = ("warn", "stop")
_TENSORS = ("matrices", "all")
_WARMUPS = ("from_zero", "linspace")
_SCHEDULES = ("step", "epoch")

# (keys, whether a value may be used, what it must be).
_RANGES = (
  (("epochs",), lambda x: x > 0, "positive: 0 steps"),
  (("seed",), lambda x: 0 <= x < 2**32, "in [0, 2^32)"),
  (
    (
      *("batch_size", "microbatches"),
      *("checkpoint.keep", "logging.log_every_steps"),
    ),
    lambda x: x >= 1,
    "at least 1",
  ),
  (
    (
      *("optimizer.base_learning_rate", "optimizer.eps"),
      *("optimizer.trust", "evaluation.every_epochs"),
      "checkpoint.every_epochs",
    ),
    lambda x: x > 0,
    "positive",
  ),
  (
    (
      *("data.threads", "data.workers", "optimizer.min_learning_rate"),
      "optimizer.first_learning_rate",
      *("optimizer.weight_decay", "optimizer.clip_norm"),
      "optimizer.clip_each",
      *("optimizer.warmup_epochs", "optimizer.vector_rate"),
    ),
    lambda x: x >= 0,
    "at least 0",
  ),
  (
    ("optimizer.final_weight_decay",),
    lambda x: x is None or x >= 0,
    "at least 0, or None",
  ),
  (
    (
      *("data.holdout", "data.max_rejected"),
      *("optimizer.b1", "optimizer.b2", "optimizer.momentum"),
    ),
    lambda x: 0 <= x < 1,
    "in [0, 1)",
  ),
  (
    ("optimizer.decay", "optimizer.adapt"),
    lambda x: x in _TENSORS,
    " or ".join(_TENSORS),
  ),
  (("optimizer.warmup",), lambda x: x in _WARMUPS, " or ".join(_WARMUPS)),
  (
    ("optimizer.schedule_per",),
    lambda x: x in _SCHEDULES,
    " or ".join(_SCHEDULES),
  ),
  (("plane.every",), lambda x: 0 <= x <= 1, "in [0, 1]; 0 is off"),
  (("on_alarm",), lambda x: x in _ON_ALARM, " or ".join(_ON_ALARM)),
  (
    (
      *("alarms.fall", "alarms.rank_share", "alarms.dead_share"),
      *("alarms.data_wait", "alarms.grace"),
    ),
    lambda x: 0 <= x < 1,
    "in [0, 1)",
  ),
  (
    (
      *("alarms.collapse_rank", "alarms.collapse_entropy"),
      *("alarms.loss_spike", "alarms.gradient_spike"),
      "alarms.grace_steps",
    ),
    lambda x: x >= 0,
    "at least 0; 0 is off",
  ),
  (("alarms.patience",), lambda x: x >= 1, "at least 1"),
  (("alarms.spike_steps",), lambda x: x >= 8, "at least 8"),
  (("plane.size", "plane.sample_rows"), lambda x: x >= 2, "at least 2"),
)


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
  # The arguments for one's own images in mmae_jax/recipes.
  other, size = "vit_s16", "224 x 224 (vit_ti8: 64 x 64, on a laptop)"
  if config.encoder.name == "resnet":
    other, size = "resnet18", "224 x 224"
  raise UsageError(
    f"--config.data.{key}={value}: this model is for the embedded images of"
    f" 8 x 8 pixels; for your own of {size}:"
    f"\n  python launch/train.py --config=configs/{config.objective.name}.py"
    f":{other} --config.data.{key}={value}"
  )


def check(config: ConfigDict) -> None:
  """Raises UsageError for values that no run can use.

  What depends on the dataset, the devices or the objective, and the views, is
  checked where those are read, still before anything compiles.
  """
  if "views" not in config:
    raise UsageError(
      f"--config: {config.get('name', 'this')} is a config of language models;"
      " python launch/finetune_language.py runs it"
    )
  _require(
    config.name, "name", repr(config.name), "a name for the run's folder"
  )
  check_ranges(config)
  _require(
    config.batch_size % config.microbatches == 0,
    "microbatches",
    config.microbatches,
    f"a divisor of --config.batch_size={config.batch_size}",
  )
  _require(
    config.optimizer.warmup_epochs <= config.epochs,
    "optimizer.warmup_epochs",
    config.optimizer.warmup_epochs,
    f"between 0 and --config.epochs={config.epochs}",
  )
  _require(
    config.optimizer.name == "adamw"
    or config.optimizer.final_weight_decay is None,
    "optimizer.final_weight_decay",
    config.optimizer.final_weight_decay,
    f"None with --config.optimizer.name={config.optimizer.name}, whose decay is"
    " constant",
  )
  _require(
    config.optimizer.larc or not config.optimizer.larc_clip,
    "optimizer.larc_clip",
    True,
    "False without --config.optimizer.larc=True",
  )
  _require(
    (config.encoder.name, config.evaluation.pool) != ("resnet", "cls"),
    "evaluation.pool",
    "cls",
    "--config.evaluation.pool=auto with --config.encoder.name=resnet, which has"
    " no class token",
  )
  _check_data_fits(config)
  check_evaluation(config.evaluation)


def check_ranges(config: ConfigDict, *, only: str = "") -> None:
  """Raises UsageError for a number out of its range.

  Args:
    config: a run's.
    only: the keys that begin so.
  """
  values = config_lib.flatten(config)
  for keys, ok, expected in _RANGES:
    for key in keys:
      if key.startswith(only):
        _require(ok(values[key]), key, values[key], expected)


def check_evaluation(evaluation: ConfigDict) -> None:
  """Raises UsageError for values that no evaluation can use."""
  linear, knn = evaluation.linear, evaluation.knn
  network = evaluation.get("network", "student")  # older runs have no such key
  for key, value, ok, expected in (
    ("pool", evaluation.pool, evaluation.pool in _POOLS, " or ".join(_POOLS)),
    ("network", network, network in _NETWORKS, " or ".join(_NETWORKS)),
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
