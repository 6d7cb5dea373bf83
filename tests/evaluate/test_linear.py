"""Both forms of the linear probe."""

import functools

from evaluate.tiny_run import Images, tiny_config
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax.evaluate import features, head, linear
from mmae_jax.train import state as state_lib
from mmae_jax.types import UsageError

RECIPE = {"epochs": 4, "warmup_epochs": 1, "batch_size": 16, "scale": (0.5, 1)}


@jax.jit
def _colours(variables, images):
  """A stand-in for an encoder: mean colour, scaled by its only variable."""
  images = images.reshape(-1, *images.shape[-3:])
  return variables * images.astype(jnp.float32).mean(axis=(1, 2)) / 255


def _probe(coloured, mesh, **changes):
  train, test = coloured
  config = tiny_config()
  rows, labels = features.extract(
    functools.partial(_colours, jnp.ones(3)),
    features.evaluation_images(test, config, mesh=mesh),
  )
  return linear.linear_probe(
    config,
    _colours,
    jnp.ones(3),
    train_source=train,
    test=(rows, labels),
    mesh=mesh,
    **{**RECIPE, **changes},
  )


@pytest.mark.parametrize(
  "changes",
  [
    {"base_learning_rate": 150.0, "epochs": 50},
    {"optimizer": "sgd", "base_learning_rate": 5.0, "bn_group_size": 8},
  ],
  ids=["lars", "sgd"],
)
def test_probe_separates_colours(coloured, mesh, changes):
  seen = []
  results = _probe(
    coloured, mesh, on_epoch=lambda e, r: seen.append((e, dict(r))), **changes
  )
  assert results["accuracy"] == results["best_accuracy"] == 1.0
  assert results["top5"] == results["best_top5"] == 1.0
  epochs = changes.get("epochs", RECIPE["epochs"])
  assert [epoch for epoch, _ in seen] == list(range(1, epochs + 1))
  assert seen[-1][1] == results
  assert seen[-1][1]["loss"] < seen[0][1]["loss"]


def test_probe_does_not_depend_on_devices_or_microbatches(coloured):
  results = [
    _probe(
      coloured,
      state_lib.make_mesh(devices=jax.devices()[:devices]),
      base_learning_rate=50.0,
      microbatches=parts,
    )
    for devices, parts in ((1, 1), (8, 2), (1, 4))
  ]
  losses = [r["loss"] for r in results]
  np.testing.assert_allclose(losses, losses[0], rtol=1e-4)


def test_best_is_the_maximum_over_epochs(coloured, mesh, monkeypatch):
  accuracies = iter([0.5, 0.75, 0.25, 0.6])
  monkeypatch.setattr(
    head, "score", lambda *_: {"accuracy": next(accuracies), "top5": 1.0}
  )
  results = _probe(coloured, mesh)
  assert results["accuracy"] == 0.6 and results["best_accuracy"] == 0.75


def test_probe_errors(coloured):
  probe = functools.partial(_probe, coloured, state_lib.make_mesh())
  for changes, message in (
    ({"batch_size": 81}, r"linear\.batch_size=81: must be .* 80 images"),
    ({"batch_size": 12}, "not divisible by 8 devices"),
    ({"batch_size": 24, "microbatches": 2}, r"linear\.microbatches=2"),
    ({"bn_group_size": 5}, r"bn_group_size=5: does not divide"),
    ({"optimizer": "adam"}, r"optimizer=adam: must be lars or sgd"),
    ({"warmup_epochs": 9}, r"warmup_epochs=9"),
    ({"epochs": 0}, r"epochs=0"),
    ({"base_learning_rate": float("inf")}, "diverged in epoch 1"),
  ):
    with pytest.raises(UsageError, match=message):
      probe(**changes)
  train, test = coloured
  for classes, message in ((0, "without one"), (1, "two classes")):
    few = Images(train.images, np.minimum(train.labels, classes - 1), classes)
    with pytest.raises(UsageError, match=message):
      _probe((few, test), state_lib.make_mesh())


def test_ranks_of_the_head():
  logits = np.array([[3.0, 2, 1, 0, -1, -2], [0, 1, 2, 3, 4, 5], [1] * 6])
  state = {"params": {}, "stats": {}}
  results = head.score(lambda _, rows: rows, state, logits, np.array([1, 0, 0]))
  assert results["accuracy"] == 0.0
  assert results["top5"] == pytest.approx(1 / 3)  # equal logits: the last rank
  results = head.score(
    lambda _, rows: rows, state, logits, np.array([0, 5, 2]), chunk=2
  )
  assert results["accuracy"] == pytest.approx(2 / 3)


def test_logistic_regression():
  rng = np.random.default_rng(0)
  labels = np.arange(60) % 3
  centres = np.array([[4.0, 0], [0, 4], [-4, -4]])
  # Columns of very different size: standardisation brings them together.
  rows = (centres[labels] + rng.normal(size=(60, 2))) * [1e-4, 1e4]
  accuracy = linear.logistic_regression(
    rows[:40], labels[:40], rows[40:], labels[40:]
  )
  assert accuracy == 1.0


def test_logistic_regression_errors():
  rows = np.ones((4, 2), np.float32)
  fit = functools.partial(linear.logistic_regression, rows)
  with pytest.raises(UsageError, match=r"two classes.*label 3.*--data\.folder"):
    fit(np.full(4, 3), rows, np.full(4, 3))
  with pytest.raises(UsageError, match="images without one"):
    fit(np.array([0, 1, -1, 0]), rows, np.zeros(4))
  with pytest.raises(UsageError, match=r"linear\.c=0"):
    fit(np.array([0, 1, 1, 0]), rows, np.zeros(4), c=0)


def test_recipe_is_the_config_without_the_other_form():
  settings = tiny_config().evaluation.linear
  recipe = linear.recipe(settings)
  assert "form" not in recipe and "c" not in recipe
  assert set(recipe) <= set(linear.linear_probe.__kwdefaults__)
