"""What the training loop asks about its encoder at intervals."""

from typing import Any

import jax
import numpy as np

from mmae_jax import information
from mmae_jax.data import crops
from mmae_jax.evaluate import features as features_lib, knn, linear

# Test images with their nearest training images, for the report.
_QUERIES = 8
_NEIGHBOURS = 6


def evaluate_state(
  config: Any,
  encoder: Any,
  variables: Any,
  *,
  train_source: Any,
  test_source: Any | None,
  mesh: jax.sharding.Mesh,
  with_linear: bool = False,
) -> dict[str, Any]:
  """Measures a frozen encoder; a collective operation, changes no state.

  The features of both splits (at most `evaluation.max_train_images` and
  `max_test_images`) are computed once and serve everything; the program that
  computes them is compiled once per run, and the centre views of small splits
  are decoded once. Spectrum and entropies are those of the training features,
  of which there are enough: n features have at most rank n.

  Args:
    config: the run's.
    encoder: the module.
    variables: of the encoder, see `features.encoder_variables`.
    train_source: training split.
    test_source: test split; None leaves out what needs one.
    mesh: the run's devices.
    with_linear: also logistic regression, where `evaluation.linear.form` asks
      for it (the papers' probe is `launch/evaluate.py linear`: it trains for
      longer than most evaluations may take).
  Returns:
    "effective_rank", "matrix_entropy" (nats), "eigenvalues" [min(rows, dim)]
    (unit trace, descending); with a test split "neighbours", the arrays of the
    report; with labels of two classes or more "knn_accuracy" and perhaps
    "linear_accuracy", in [0, 1].
  """
  settings = config.evaluation
  encode = features_lib.encode_of(config, encoder)

  def extract(source, limit):
    return features_lib.extract(
      lambda images: encode(variables, images),
      features_lib.evaluation_images(source, config, mesh=mesh, limit=limit),
    )

  # The loop forbids implicit transfers; evaluation is on its own side.
  with jax.transfer_guard("allow"):
    train, train_labels = extract(train_source, settings.max_train_images)
    results = spectral_summary(train)
    if test_source is None:
      return results
    test, test_labels = extract(test_source, settings.max_test_images)
    index, cosines = knn.nearest_neighbours(
      train,
      test,
      k=min(max(settings.knn.k, _NEIGHBOURS), len(train)),
      mesh=mesh,
    )
    results["neighbours"] = _pictures(
      config,
      (train_source, settings.max_train_images, train_labels),
      (test_source, settings.max_test_images, test_labels),
      index,
      cosines,
    )
    if features_lib.missing_labels(train_source) or test_labels.min() < 0:
      return results
    k = settings.knn.k
    predicted = knn.vote(
      train_labels[index[:, :k]],
      cosines[:, :k],
      num_classes=train_source.num_classes,
      temperature=settings.knn.temperature,
    )
    results["knn_accuracy"] = float(np.mean(predicted == test_labels))
    classes = len(np.unique(train_labels))
    if with_linear and settings.linear.form == "logistic" and classes > 1:
      results["linear_accuracy"] = linear.logistic_regression(
        train, train_labels, test, test_labels, c=settings.linear.c
      )
  return results


def spectral_summary(features: np.ndarray) -> dict[str, Any]:
  """Spectrum of the features' second moment, and two numbers about it.

  Args:
    features: [rows, dim].
  Returns:
    "effective_rank", "matrix_entropy" in nats (its logarithm), "eigenvalues".
  """
  eigenvalues, entropy = _spectrum(features)
  return {
    "effective_rank": float(np.exp(entropy)),
    "matrix_entropy": float(entropy),
    "eigenvalues": np.asarray(eigenvalues),
  }


@jax.jit
def _spectrum(features):
  eigenvalues = information.feature_spectrum(features)
  return eigenvalues, information.spectral_entropy(eigenvalues)


def _pictures(config, train, test, index, cosines):
  """Arrays of the report: evenly spread queries and what is nearest."""
  view = config.views["global"]

  def pictures(split, rows):
    source, limit, _ = split
    positions = features_lib.chosen_positions(len(source), limit)
    rows = np.asarray(rows)
    flat = [
      crops.centre_view(
        source[int(positions[row])]["image"],
        view.size,
        interpolation=view.interpolation,
      )
      for row in rows.ravel()
    ]
    return np.stack(flat).reshape(*rows.shape, view.size, view.size, 3)

  count = min(_QUERIES, len(index))
  queries = np.linspace(0, len(index) - 1, count).round().astype(int)
  nearest = index[queries, :_NEIGHBOURS]
  return {
    "query": pictures(test, queries),
    "neighbours": pictures(train, nearest),
    "query_label": test[2][queries],
    "neighbour_label": train[2][nearest],
    "similarity": cosines[queries, :_NEIGHBOURS],
  }
