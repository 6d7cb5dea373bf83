"""Evaluates a run's checkpoint on its own or on any other labelled data."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import json
import os
import re
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from mmae_jax.data import source as source_lib
from mmae_jax.evaluate import (
  encoder as encoder_lib,
  features as features_lib,
  hosts,
  in_loop,
  knn,
  linear,
  overrides,
)
from mmae_jax.train import checkpoint, state as state_lib
from mmae_jax.types import UsageError

FILE = "evaluations.jsonl"


@dataclasses.dataclass(frozen=True)
class Subject:
  """What is evaluated: a checkpoint's encoder on a dataset.

  Attributes:
    config: the run's with the overrides of the command.
    run: the run's folder.
    step: of the checkpoint.
    encode: (variables, images) -> features.
    variables: of the encoder, on the mesh.
    train: training split.
    test: test split or None.
    mesh: all devices.
    out: path of the features, "" is in the run's folder.
    say: prints a line on process 0.
  """

  config: Any
  run: epath.Path
  step: int
  encode: Callable[[Any, jax.Array], jax.Array]
  variables: Any
  train: Any
  test: Any
  mesh: jax.sharding.Mesh
  out: str
  say: Callable[[str], None]

  def extract(self, source) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of a whole split."""
    return features_lib.extract(
      functools.partial(self.encode, self.variables),
      features_lib.evaluation_images(source, self.config, mesh=self.mesh),
    )


def evaluate(
  kind: str,
  workdir: Any,
  *,
  step: int | None = None,
  evaluated: str | None = None,
  data: Mapping[str, Any] | None = None,
  settings: Mapping[str, Any] | None = None,
  out: str = "",
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Runs one evaluation and records it; a collective operation.

  Writes one line to `evaluations.jsonl` in the run's folder, and for
  "features" an .npz with train, train_labels, test, test_labels (-1 is
  unlabelled). The checkpoint and the run's other files are only read.

  Args:
    kind: "features", "knn" or "linear".
    workdir: the run's folder, or one checkpoint in it.
    step: the checkpoint; None is the newest sound one.
    evaluated: "student" or "teacher"; None is the run's setting.
    data: keys of `config.data` that differ from the run's: a folder or name
      is other data, whose splits are "train" and "test" unless given.
    settings: dotted keys of `config.evaluation` that differ from the run's,
      such as "knn.k"; None values are left out.
    out: path of the .npz; "" is a name in the run's folder.
    say: prints a line; called on process 0 only.
  Returns:
    The record.
  Raises:
    UsageError: no such run, data, split or setting; labels are missing.
  """
  if kind not in _KINDS:
    raise UsageError(f"{kind}: unknown evaluation, one of {', '.join(_KINDS)}")
  config, params, model_state, step, path = checkpoint.load_network(
    workdir, step=step, evaluated=evaluated
  )
  evaluated = evaluated or config.evaluation.get("network", "student")
  config = overrides.override(config, data or {}, settings or {})
  encoder, variables = encoder_lib.build(config, params, model_state, path=path)
  encode = features_lib.encode_of(config, encoder)
  size = config.views["global"].size
  dim = features_lib.feature_dim(encode, variables, size)
  train, test = source_lib.open_sources(config)
  if kind != "features":
    _check_sources(kind, config, train, test)
  mesh = state_lib.make_mesh()
  variables = jax.tree.map(
    lambda x: hosts.to_mesh(x, mesh, split=False), variables
  )
  writes = jax.process_index() == 0
  subject = Subject(
    config=config,
    run=path.parent.parent,
    step=step,
    encode=encode,
    variables=variables,
    train=train,
    test=test,
    mesh=mesh,
    out=out,
    say=say if writes else lambda line: None,
  )
  options = config.evaluation
  subject.say(f"run         {subject.run}")
  subject.say(f"checkpoint  step {step}, {evaluated}, {config.objective.name}")
  subject.say(
    f"data        {train.name}: {len(train)} training and"
    f" {len(test) if test is not None else 0} test images,"
    f" {train.num_classes or 'no'} classes, seen at {size} x {size}"
  )
  subject.say(
    f"features    {options.pool}, layer {options.layer}, {dim} dimensions"
  )
  record = {
    "kind": kind,
    "time": time.time(),
    "step": step,
    "checkpoint": evaluated,
    "data": train.name,
    "pool": options.pool,
    "layer": options.layer,
    "dim": dim,
    **_KINDS[kind](subject),
  }
  if writes:
    append(subject.run / FILE, record)
  subject.say(f"recorded in {subject.run / FILE}")
  return record


def _features(subject):
  arrays = {}
  for split, source in (("train", subject.train), ("test", subject.test)):
    if source is not None:
      arrays[split], arrays[f"{split}_labels"] = subject.extract(source)
  data = re.sub(r"[^\w.-]", "_", subject.train.name).strip("_")
  default = subject.run / f"features-{subject.step}-{data}.npz"
  path = epath.Path(subject.out) if subject.out else default
  if jax.process_index() == 0:
    features_lib.save_npz(path, **arrays)
  rank = in_loop.spectral_summary(arrays["train"])["effective_rank"]
  subject.say(f"effective rank {rank:.2f}")
  subject.say(f"written to {path}")
  return {"effective_rank": rank, "path": str(path)}


def _knn(subject):
  settings = dict(subject.config.evaluation.knn)
  accuracy = knn.knn_accuracy(
    *subject.extract(subject.train),
    *subject.extract(subject.test),
    mesh=subject.mesh,
    **settings,
  )
  subject.say(
    f"k-NN        k {settings['k']}, temperature {settings['temperature']}"
  )
  subject.say(f"accuracy    {accuracy:.4f}")
  return {**settings, "accuracy": accuracy}


def _linear(subject):
  settings = subject.config.evaluation.linear
  if settings.form == "probe":
    return _probe(subject, settings)
  accuracy = linear.logistic_regression(
    *subject.extract(subject.train),
    *subject.extract(subject.test),
    c=settings.c,
  )
  subject.say(f"linear      logistic regression, C {settings.c}")
  subject.say(f"accuracy    {accuracy:.4f}")
  return {"form": "logistic", "c": settings.c, "accuracy": accuracy}


def _probe(subject, settings):
  recipe = linear.recipe(settings)

  def on_epoch(epoch, results):
    subject.say(
      f"epoch {epoch:5d}  loss {results['loss']:.4f}  accuracy"
      f" {results['accuracy']:.4f}  best {results['best_accuracy']:.4f}"
    )

  results = linear.linear_probe(
    subject.config,
    subject.encode,
    subject.variables,
    train_source=subject.train,
    test=subject.extract(subject.test),
    mesh=subject.mesh,
    on_epoch=on_epoch,
    **recipe,
  )
  subject.say(
    f"accuracy    {results['accuracy']:.4f} last,"
    f" {results['best_accuracy']:.4f} best;"
    f" top-5 {results['top5']:.4f} last, {results['best_top5']:.4f} best"
  )
  return {"form": "probe", **recipe, **results}


_KINDS = {"features": _features, "knn": _knn, "linear": _linear}


def _check_sources(kind, config, train, test):
  reason = features_lib.missing_labels(train)
  if reason:
    raise UsageError(
      f"{kind} needs labels of at least two classes, and of {train.name}"
      f" {reason}: give other data by --data.folder or --data.name"
    )
  if test is None:
    raise UsageError(
      f"{kind} needs a test split, and {train.name} has none called"
      f" {config.data.test_split!r}: --data.test_split names it"
    )


def append(path: Any, record: Mapping[str, Any]) -> None:
  """Adds a line to a file of records; raises UsageError where it cannot."""
  line = json.dumps(record, default=list) + "\n"
  try:
    if "://" in os.fspath(path):
      before = path.read_text() if path.exists() else ""
      path.write_text(before + line)
    else:
      with open(path, "a") as file:
        file.write(line)
  except OSError as error:
    raise UsageError(f"{path}: cannot be written ({error})") from error
