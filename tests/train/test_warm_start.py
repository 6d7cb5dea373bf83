"""What a run takes over from another one."""

import jax
import numpy as np
import pytest
import tiny

from mmae_jax.train import checkpoint, warm_start
from mmae_jax.types import UsageError


@pytest.fixture
def runs(monkeypatch):
  """A fresh run and the network of a trained one, as a checkpoint gives it."""
  config = tiny.shrink(tiny.load_config("byol"))
  fresh = tiny.Run(config, compiled=False)
  config.seed = 1
  other = tiny.Run(config, compiled=False).state
  params = jax.device_get(other.params["network"])
  statistics = jax.tree.map(
    lambda x: np.asarray(x) + 0.5, jax.device_get(other.model_state)
  )
  monkeypatch.setattr(
    checkpoint,
    "load_network",
    lambda path, *, evaluated: (config, params, statistics, 7, "there"),
  )
  own = tiny.shrink(tiny.load_config("byol"))
  own.init_from = "there"
  return own, fresh, params, statistics["batch_stats"]


def assert_equal(got, expected):
  jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_statistics_and_the_teacher_come_along(runs):
  config, fresh, params, statistics = runs
  state, note = warm_start.initialise_from(config, fresh.state, fresh.shardings)
  assert note == "weights of encoder, predictor, projector taken from there"
  assert_equal(state.params["network"], params)
  assert_equal(state.model_state["batch_stats"], statistics)
  teacher = state.carry["teacher"]
  for name in ("encoder", "projector"):
    assert_equal(teacher["params"][name], params[name])
    assert_equal(teacher["model_state"]["batch_stats"][name], statistics[name])
  # Donation needs buffers of their own.
  kernels = [
    tree["encoder"]["conv1"]["kernel"]
    for tree in (state.params["network"], teacher["params"])
  ]
  assert len({k.unsafe_buffer_pointer() for k in kernels}) == 2


def test_another_projector_is_left_as_it_is(runs):
  config, fresh, params, _ = runs
  params["projector"] = {"linear_0": {"kernel": np.zeros((3, 3))}}
  state, note = warm_start.initialise_from(config, fresh.state, fresh.shardings)
  assert note == (
    "weights of encoder, predictor taken from there; projector begin anew"
  )
  before = fresh.state.carry["teacher"]["params"]["projector"]
  assert_equal(state.carry["teacher"]["params"]["projector"], before)
  assert_equal(
    state.model_state["batch_stats"]["projector"],
    fresh.state.model_state["batch_stats"]["projector"],
  )
  params["encoder"] = {}
  with pytest.raises(UsageError, match="other shapes"):
    warm_start.initialise_from(config, fresh.state, fresh.shardings)


def test_what_shapes_do_not_say_is_compared(runs):
  config, fresh, _, _ = runs
  config.encoder.stem = "imagenet"
  with pytest.raises(UsageError, match=r"encoder\.stem=imagenet: .* has small"):
    warm_start.initialise_from(config, fresh.state, fresh.shardings)
  config.encoder.stem = "small"
  config.views["global"].mean = (0.5, 0.5, 0.5)
  _, note = warm_start.initialise_from(config, fresh.state, fresh.shardings)
  assert "pixels had the mean (0.305" in note
