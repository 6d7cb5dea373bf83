"""What the training loop gets."""

from evaluate.tiny_run import Images, tiny_config, tiny_encoder
import jax
import numpy as np
import pytest

from mmae_jax import information
from mmae_jax.evaluate import features, in_loop, knn, linear
from mmae_jax.train import state as state_lib


def _evaluate(train, test, mesh, *, config=None, with_linear=False):
  config = config or tiny_config()
  encoder, params = tiny_encoder(config)
  with jax.transfer_guard("disallow"):
    return in_loop.evaluate_state(
      config,
      encoder,
      {"params": jax.device_get(params)},
      train_source=train,
      test_source=test,
      mesh=mesh,
      with_linear=with_linear,
    )


@pytest.fixture(scope="module")
def single():
  return state_lib.make_mesh(devices=jax.devices()[:1])


def test_all_of_it(coloured, single):
  train, test = coloured
  config = tiny_config()
  results = _evaluate(train, test, single, config=config, with_linear=True)
  encoder, params = tiny_encoder(config)
  encode = features.encode_of(config, encoder)
  rows = [
    np.asarray(encode({"params": params}, source.images))
    for source in (train, test)
  ]
  assert results["knn_accuracy"] == knn.knn_accuracy(
    rows[0], train.labels, rows[1], test.labels
  )
  assert results["linear_accuracy"] == linear.logistic_regression(
    rows[0], train.labels, rows[1], test.labels
  )
  rank = float(information.effective_rank(rows[0]))
  assert results["effective_rank"] == pytest.approx(rank, rel=1e-4)
  assert results["matrix_entropy"] == pytest.approx(np.log(rank), rel=1e-3)
  eigenvalues = results["eigenvalues"]
  assert eigenvalues.shape == (16,)
  assert np.all(np.diff(eigenvalues) <= 0)
  assert eigenvalues.sum() == pytest.approx(1, rel=1e-5)
  shapes = {k: v.shape for k, v in results["neighbours"].items()}
  assert shapes == {
    "query": (8, 8, 8, 3),
    "neighbours": (8, 6, 8, 8, 3),
    "query_label": (8,),
    "neighbour_label": (8, 6),
    "similarity": (8, 6),
  }
  assert np.array_equal(results["neighbours"]["query"][0], test.images[0])
  nearest, _ = knn.nearest_neighbours(rows[0], rows[1], k=1)
  assert np.array_equal(
    results["neighbours"]["neighbours"][0, 0], train.images[nearest[0, 0]]
  )


def test_one_program_for_all_evaluations(coloured, single):
  config = tiny_config()
  encoder, _ = tiny_encoder(config)
  encode = features.encode_of(config, encoder)
  _evaluate(*coloured, single)
  before = encode._cache_size()
  _evaluate(*coloured, single)
  assert encode._cache_size() == before


def test_what_needs_labels_is_left_out(coloured, single):
  train, test = coloured
  for classes in (0, 1):
    few, fewer = (
      Images(s.images, np.full(len(s), classes - 1), classes)
      for s in (train, test)
    )
    results = _evaluate(few, fewer, single, with_linear=True)
    assert "neighbours" in results
    assert not any(name.endswith("accuracy") for name in results)
  results = _evaluate(train, None, single, with_linear=True)
  assert set(results) == {"effective_rank", "matrix_entropy", "eigenvalues"}


def test_form_of_the_linear_probe(coloured, single):
  config = tiny_config()
  for form in ("probe", "none"):
    config.evaluation.linear.form = form
    results = _evaluate(*coloured, single, config=config, with_linear=True)
    assert "linear_accuracy" not in results


def test_limits_and_tiny_splits(coloured, single):
  train, test = coloured
  config = tiny_config()
  config.evaluation.max_train_images = 5
  config.evaluation.max_test_images = 3
  results = _evaluate(train, test, single, config=config, with_linear=True)
  assert results["eigenvalues"].shape == (5,)
  neighbours = results["neighbours"]
  assert neighbours["neighbours"].shape == (3, 5, 8, 8, 3)
  chosen = features.chosen_positions(len(train), 5)
  assert set(neighbours["neighbour_label"].ravel()) <= set(train.labels[chosen])
