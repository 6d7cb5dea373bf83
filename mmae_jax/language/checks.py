"""Values of a language config that no run can use."""

from collections.abc import Sequence
import re

from ml_collections import ConfigDict

from mmae_jax.language import loss as loss_lib, results, template
from mmae_jax.language.loss import MatrixTerm
from mmae_jax.types import UsageError

_REMAT = ("none", "block", "decoder")
_TYPES = ("float32", "bfloat16")
_TOO_LONG = ("refuse", "drop", "cut")

# (keys, whether a value may be used, what it must be).
_RANGES = (
  (("epochs", "optimizer.eps", "lora.alpha"), lambda x: x > 0, "positive"),
  (("optimizer.learning_rate",), lambda x: x > 0, "positive"),
  (
    (
      *("batch_size", "microbatches", "evaluation.batch_size"),
      *("evaluation.new_tokens", "logging.log_every_steps"),
      *("checkpoint.every_steps", "checkpoint.keep"),
      *("data.train_examples", "data.test_examples"),
    ),
    lambda x: x >= 1,
    "at least 1",
  ),
  (("data.length",), lambda x: x >= 2, "at least 2"),
  (
    (
      *("optimizer.weight_decay", "optimizer.clip_norm", "lora.rank"),
      *("data.train_limit", "data.test_limit"),
    ),
    lambda x: x >= 0,
    "at least 0",
  ),
  (("data.seed",), lambda x: 0 <= x < 2**32, "in [0, 2^32)"),
  (
    ("optimizer.b1", "optimizer.b2", "optimizer.warmup"),
    lambda x: 0 <= x < 1,
    "in [0, 1)",
  ),
  (("data.too_long",), lambda x: x in _TOO_LONG, " or ".join(_TOO_LONG)),
  (("model.remat",), lambda x: x in _REMAT, " or ".join(_REMAT)),
  (
    ("model.dtype", "model.compute_dtype"),
    lambda x: x in _TYPES,
    " or ".join(_TYPES),
  ),
)


def check(config: ConfigDict) -> list[MatrixTerm]:
  """Refuses what can be seen before any data or device is touched.

  Args:
    config: a run's.
  Returns:
    The loss of each weight that is compared.
  Raises:
    UsageError: a value that no run can use, or a config of images.
  """
  if "loss" not in config or "tokenizer" not in config:
    raise UsageError(
      f"--config: {config.get('name', 'this')} is no config of a language"
      " model; python launch/train.py runs it"
    )
  for keys, ok, expected in _RANGES:
    for key in keys:
      value = config
      for part in key.split("."):
        value = value[part]
      if not ok(value):
        raise UsageError(f"--config.{key}={value}: must be {expected}")
  if config.batch_size % config.microbatches:
    raise UsageError(
      f"--config.microbatches={config.microbatches}: must divide"
      f" --config.batch_size={config.batch_size}"
    )
  _check_files(config)
  template.select(config.data.template)
  return _terms(config.loss)


def _terms(loss) -> list[MatrixTerm]:
  weights = loss.weights
  if not isinstance(weights, Sequence):
    weights = (weights,)
  if not weights or len(set(map(float, weights))) < len(weights):
    raise UsageError(
      f"--config.loss.weights={tuple(weights)}: needs different numbers, like"
      " (0.0,1.0)"
    )
  if len({results.name(float(weight)) for weight in weights}) < len(weights):
    raise UsageError(
      f"--config.loss.weights={tuple(weights)}: two are the same to 6 digits,"
      " which name their folders"
    )
  return [loss_lib.read_term(loss, weight) for weight in weights]


def _check_files(config: ConfigDict) -> None:
  model, data = config.model, config.data
  pretrained = model.folder or not model.family
  if pretrained and not data.train:
    raise UsageError(
      "--config.data.train=: needs FILE.json of questions and solutions; only"
      " models from scratch are trained on generated arithmetic"
    )
  if data.train and not data.test and config.evaluation.enabled:
    raise UsageError(
      "--config.data.test=: needs FILE.jsonl of what the model is asked, or"
      " --config.evaluation.enabled=False"
    )
  try:
    re.compile(config.lora.modules)
  except re.error as error:
    raise UsageError(
      f"--config.lora.modules={config.lora.modules}: is no regular expression"
      f" ({error})"
    ) from error


def check_batch(config: ConfigDict, mesh) -> None:
  """Refuses a batch that the mesh or the micro-batches do not divide.

  Args:
    config: a run's.
    mesh: of `sharding.make_mesh`.
  Raises:
    UsageError: they do not.
  """
  parts = mesh.shape["fsdp"] * config.microbatches
  if config.batch_size % parts:
    raise UsageError(
      f"--config.batch_size={config.batch_size}: must be divisible by"
      f" {parts}, --config.mesh.fsdp={mesh.shape['fsdp']} times"
      f" --config.microbatches={config.microbatches}"
    )
