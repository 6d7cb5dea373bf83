"""Linear classification of frozen features, in two forms.

`logistic_regression` fits cached features with scikit-learn, for small data.
`linear_probe` is the papers': batch normalisation without affine parameters
and a linear layer, trained with LARS or SGD on augmented images.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any
import warnings

from absl import logging
import jax
import numpy as np

from mmae_jax import config as config_lib
from mmae_jax.data import pipeline
from mmae_jax.evaluate import head as head_lib, hosts
from mmae_jax.train import lars, optimizer as optimizer_lib
from mmae_jax.types import UsageError

Array = jax.Array
_FLAG = "--config.evaluation.linear"


def logistic_regression(
  train: np.ndarray,
  train_labels: np.ndarray,
  test: np.ndarray,
  test_labels: np.ndarray,
  *,
  c: float = 1.0,
) -> float:
  """Test accuracy of multinomial logistic regression on standardised features.

  Args:
    train: features, [rows, dim]; mean 0 and variance 1 per column here.
    train_labels: int [rows].
    test: features, [queries, dim]; shifted and scaled as `train`.
    test_labels: int [queries].
    c: inverse strength of the L2 penalty, scikit-learn's C.
  Returns:
    Accuracy in [0, 1].
  Raises:
    UsageError: unlabelled images, a single class, c not positive.
  """
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  if not c > 0:
    raise UsageError(f"{_FLAG}.c={c}: must be positive")
  check_classes(train_labels)
  model = make_pipeline(
    StandardScaler(), LogisticRegression(C=c, max_iter=1000)
  )
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", ConvergenceWarning)
    model.fit(train.astype(np.float64), train_labels)
  if any(issubclass(w.category, ConvergenceWarning) for w in caught):
    logging.warning("logistic regression stopped after 1000 iterations")
  predicted = model.predict(test.astype(np.float64))
  return float(np.mean(predicted == test_labels))


def check_classes(labels: np.ndarray) -> None:
  """Raises UsageError unless all images have labels of at least two classes."""
  classes = np.unique(labels)
  if classes[0] < 0:
    raise UsageError(
      "a linear probe needs labels, and this data has images without one"
    )
  if len(classes) < 2:
    raise UsageError(
      "a linear probe needs at least two classes, and all training images have"
      f" label {classes[0]}: give other data by --data.folder or --data.name"
    )


def recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The keywords of `linear_probe` in `config.evaluation.linear`."""
  return {
    key: value for key, value in settings.items() if key not in ("form", "c")
  }


def linear_probe(
  config: Any,
  encode: Callable[[Any, Array], Array],
  variables: Any,
  *,
  train_source: Any,
  test: tuple[np.ndarray, np.ndarray],
  mesh: jax.sharding.Mesh,
  optimizer: str = "lars",
  base_learning_rate: float = 0.1,
  batch_size: int = 16_384,
  epochs: int = 90,
  warmup_epochs: float = 10,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  batch_norm: bool = True,
  bn_group_size: int = 0,
  scale: tuple[float, float] = (0.08, 1.0),
  microbatches: int = 1,
  on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> dict[str, float]:
  """The papers' linear probe: a linear head on a frozen encoder.

  The encoder runs inside the step on randomly cropped and flipped images, the
  batch split over the mesh; the learning rate is base_learning_rate *
  batch_size / 256 with warm-up and cosine per step. A collective operation.

  Args:
    config: the run's, for views, data threads and the seed; not changed.
    encode: (variables, uint8 images) -> features, of `make_encode`.
    variables: of the encoder; read only.
    train_source: labelled records.
    test: features [rows, dim] and labels [rows] of the test split.
    mesh: devices.
    optimizer: "lars" or "sgd".
    base_learning_rate: per 256 images.
    batch_size: global.
    epochs: passes over the training split.
    warmup_epochs: of linear warm-up.
    momentum: of either optimizer.
    nesterov: for sgd.
    weight_decay: inside the gradient; under LARS not on the bias.
    batch_norm: normalise features first (MAE, SimSiam: yes; MoCo v3, DINO: no).
    bn_group_size: rows that share statistics; the authors' programs have them
      per GPU, 512 in MAE, 256 in U-MAE and M-MAE; 0 is the whole batch.
    scale: share of the area that a random crop keeps; ratio, flip and filter
      are those of the run's views.
    microbatches: parts in which the frozen encoder sees a batch; exact.
    on_epoch: called with the epoch, from 1, and its results so far.
  Returns:
    "accuracy" and "top5" after the last epoch, "best_accuracy" and "best_top5"
    over epochs (published numbers do not say which they are), "loss".
  Raises:
    UsageError: labels are missing or of one class, sizes that do not fit, an
      unknown optimizer, divergence.
  Source:
    He et al. 2022 (arXiv 2111.06377), linear probing. Chen et al. 2021 for BN.
  """
  num_classes = train_source.num_classes
  if num_classes < 2:
    check_classes(np.full(1, num_classes - 1))
  _check_sizes(batch_size, bn_group_size, microbatches, len(train_source), mesh)
  if epochs < 1 or not 0 <= warmup_epochs <= epochs:
    raise UsageError(
      f"{_FLAG}.epochs={epochs} {_FLAG}.warmup_epochs={warmup_epochs}: needs at"
      " least one epoch and a warm-up within them"
    )
  steps_per_epoch = len(train_source) // batch_size
  transform = _optimizer(
    optimizer,
    optimizer_lib.warmup_cosine(
      peak=base_learning_rate * batch_size / 256,
      end=0.0,
      warmup_steps=warmup_epochs * steps_per_epoch,
      total_steps=epochs * steps_per_epoch,
    ),
    momentum=momentum,
    nesterov=nesterov,
    weight_decay=weight_decay,
  )
  head = head_lib.LinearHead(num_classes, batch_norm, bn_group_size)
  state = head_lib.initial_state(
    config.seed, head, transform, test[0].shape[1], mesh
  )
  step = head_lib.make_step(encode, head, transform, microbatches)
  predict = jax.jit(functools.partial(head.apply, train=False))

  settings = config_lib.with_global_views_alone(config)
  with settings.unlocked():
    settings.batch_size = batch_size
    settings.views["global"].update(
      {"count": 1, "scale": tuple(scale), "retry": False}
    )
  batches = pipeline.batches(train_source, settings, mesh=mesh)
  results = {"best_accuracy": 0.0, "best_top5": 0.0}
  try:
    for epoch in range(1, epochs + 1):
      for _ in range(steps_per_epoch):
        state, loss = step(state, variables, next(batches))
      results["loss"] = float(hosts.to_host(loss))
      if not np.isfinite(results["loss"]):
        raise UsageError(
          f"{_FLAG}.base_learning_rate={base_learning_rate}: the probe diverged"
          f" in epoch {epoch}; a smaller one may not"
        )
      results |= head_lib.score(predict, state, *test)
      for name in ("accuracy", "top5"):
        best = f"best_{name}"
        results[best] = max(results[best], results[name])
      if on_epoch:
        on_epoch(epoch, results)
  finally:
    batches.close()
  return results


def _check_sizes(batch_size, group_size, microbatches, images, mesh):
  flag = f"{_FLAG}.batch_size={batch_size}"
  if not 1 <= batch_size <= images:
    raise UsageError(f"{flag}: must be between 1 and the {images} images")
  if batch_size % (mesh.size * microbatches):
    raise UsageError(
      f"{flag}: not divisible by {mesh.size} devices times"
      f" {_FLAG}.microbatches={microbatches}"
    )
  if group_size and batch_size % group_size:
    raise UsageError(
      f"{_FLAG}.bn_group_size={group_size}: does not divide"
      f" {_FLAG}.batch_size={batch_size}"
    )


def _optimizer(name, schedule, *, momentum, nesterov, weight_decay):
  if name == "lars":
    return lars.lars(schedule, momentum=momentum, weight_decay=weight_decay)
  if name == "sgd":
    return lars.sgd(
      schedule,
      momentum=momentum,
      nesterov=nesterov,
      weight_decay=weight_decay,
    )
  raise UsageError(f"{_FLAG}.optimizer={name}: must be lars or sgd")
