"""Nearest neighbours and their vote against brute force in float64."""

import jax
import numpy as np
import pytest

from mmae_jax.evaluate import knn
from mmae_jax.types import UsageError


def _features(rows, dim=6, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(rows, dim)).astype(np.float32)


def _cosines(queries, train):
  queries, train = queries.astype(np.float64), train.astype(np.float64)
  queries /= np.linalg.norm(queries, axis=1, keepdims=True)
  train /= np.linalg.norm(train, axis=1, keepdims=True)
  return queries @ train.T


@pytest.mark.parametrize("blocks", [(1024, 16_384), (16, 11)])
def test_neighbours_equal_brute_force(monkeypatch, mesh, blocks):
  monkeypatch.setattr(knn, "_QUERIES", blocks[0])
  monkeypatch.setattr(knn, "_BLOCK", blocks[1])
  train, queries = _features(70), _features(37, seed=1)
  index, cosine = knn.nearest_neighbours(train, queries, k=13, mesh=mesh)
  expected = _cosines(queries, train)
  order = np.argsort(-expected, axis=1, kind="stable")[:, :13]
  np.testing.assert_array_equal(index, order)
  np.testing.assert_allclose(
    cosine, np.take_along_axis(expected, order, axis=1), atol=1e-6
  )


def test_equal_cosines_are_ordered_by_row(monkeypatch):
  monkeypatch.setattr(knn, "_BLOCK", 4)
  train = np.array([[0, 1], [2, 0], [1, 0], [0, 1], [3, 0], [1, 0]])
  index, _ = knn.nearest_neighbours(train, np.array([[1.0, 0.0]]), k=4)
  np.testing.assert_array_equal(index, [[1, 2, 4, 5]])


def test_k_beyond_the_training_rows_is_cut():
  index, cosine = knn.nearest_neighbours(_features(5), _features(3), k=20)
  assert index.shape == cosine.shape == (3, 5)
  assert np.all(np.sort(index, axis=1) == np.arange(5))


def test_vote_sums_weights():
  labels = np.array([[0, 1, 1], [2, 1, 1], [1, 0, 2]])
  cosines = np.array([[0.9, 0.8, 0.8], [0.9, 0.1, 0.1], [0.5, 0.5, 0.1]])
  kinds = {"num_classes": 3}
  # Two near votes beat one nearest; one near beats two far; a tie goes to 0.
  np.testing.assert_array_equal(
    knn.vote(labels, cosines, temperature=2.0, **kinds), [1, 1, 0]
  )
  np.testing.assert_array_equal(
    knn.vote(labels, cosines, temperature=0.07, **kinds), [0, 2, 0]
  )
  # No overflow, where exp(1 / 0.0001) would be infinite.
  np.testing.assert_array_equal(
    knn.vote(labels, cosines, temperature=1e-4, **kinds), [0, 2, 0]
  )


@pytest.mark.parametrize("chunk", [1024, 4])
def test_accuracy_equals_brute_force(monkeypatch, chunk):
  monkeypatch.setattr(knn, "_QUERIES", chunk)
  rng = np.random.default_rng(3)
  train_labels, test_labels = rng.integers(0, 4, 60), rng.integers(0, 4, 30)
  centres = rng.normal(size=(4, 6))
  train = (centres[train_labels] + _features(60)).astype(np.float32)
  test = (centres[test_labels] + _features(30, seed=1)).astype(np.float32)
  cosines = _cosines(test, train)
  hits = 0
  for row, label in zip(cosines, test_labels, strict=True):
    votes = np.zeros(4)
    for j in np.argsort(-row)[:9]:
      votes[train_labels[j]] += np.exp(row[j] / 0.1)
    hits += votes.argmax() == label
  accuracy = knn.knn_accuracy(
    train, train_labels, test, test_labels, k=9, temperature=0.1
  )
  assert accuracy == pytest.approx(hits / 30)


def test_one_program_serves_all_chunks(monkeypatch):
  monkeypatch.setattr(knn, "_QUERIES", 8)
  before = knn._search._cache_size()
  knn.nearest_neighbours(_features(50, 5), _features(29, 5), k=3)
  assert knn._search._cache_size() == before + 1


def test_errors():
  rows, labels = _features(4), np.array([0, 1, 0, 1])
  with pytest.raises(UsageError, match=r"knn\.k=0"):
    knn.nearest_neighbours(rows, rows, k=0)
  with pytest.raises(UsageError, match="temperature=0"):
    knn.knn_accuracy(rows, labels, rows, labels, temperature=0)
  with pytest.raises(UsageError, match="needs labels"):
    knn.knn_accuracy(rows, -np.ones(4, int), rows, labels)
  with pytest.raises(ValueError, match=r"got \[4, 6\] and \[4, 5\]"):
    knn.nearest_neighbours(rows, rows[:, :5])


def test_zero_features_are_not_nan():
  index, cosine = knn.nearest_neighbours(np.zeros((3, 2)), np.ones((1, 2)), k=2)
  np.testing.assert_array_equal(cosine, 0)
  np.testing.assert_array_equal(index, [[0, 1]])
  assert not jax.config.jax_enable_x64
