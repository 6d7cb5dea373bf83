"""What a signal or a state that is not finite leaves of a run, and restarts."""

from language import small
import numpy as np
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from mmae_jax.language import accuracy, run as run_lib
from mmae_jax.train import stop as stop_lib
from mmae_jax.train.metrics import read_metrics
from mmae_jax.types import UsageError

CELL = "cells/seed0_ce_1mce"


class StopsAt(stop_lib.StopSignal):
  """A signal that comes before a step; at the last one, after it."""

  def __init__(self, steps):
    super().__init__()
    self._left = steps

  @property
  def requested(self):
    if self._left == 0:
      self._signum = 15
    self._left -= 1
    return super().requested


def go(folder, stop=None, **keys):
  """The only cell of a run of four steps."""
  keys = {"loss.weights": (1.0,), "data.test_examples": 2} | keys
  (cell,) = run_lib.run(
    small.config(**keys), folder, seeds=[0], command="test", stop=stop
  )
  return cell


def records(folder, kind):
  return [r for r in read_metrics(folder / CELL) if r["kind"] == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run without a stop: its folder and its cell."""
  folder = tmp_path_factory.mktemp("whole")
  return folder, go(folder)


def test_a_stopped_run_goes_on_where_it_was(whole, tmp_path):
  with pytest.raises(stop_lib.Stopped) as stopped:
    go(tmp_path, StopsAt(3))
  assert stopped.value.exit_code == 143
  assert go(tmp_path).values == whole[1].values
  np.testing.assert_array_equal(
    [r["loss"] for r in records(tmp_path, "train")],
    [r["loss"] for r in records(whole[0], "train")],
  )


def test_a_signal_in_the_last_step_comes_before_the_evaluation(whole, tmp_path):
  with pytest.raises(stop_lib.Stopped):
    go(tmp_path, StopsAt(4))
  assert not (tmp_path / CELL / "result.json").exists()
  assert not records(tmp_path, "eval")
  assert [(r["step"], r["status"]) for r in records(tmp_path, "end")] == [
    (4, "stopped")
  ]
  assert go(tmp_path).values == whole[1].values


def test_a_signal_ends_the_evaluation_at_once(whole, tmp_path, monkeypatch):
  stop = stop_lib.StopSignal()

  def leave(code):
    raise SystemExit(code)

  stop.leave = leave
  with monkeypatch.context() as patch:
    patch.setattr(accuracy, "grade", lambda *_: stop.receive(15))
    with pytest.raises(SystemExit) as left:
      go(tmp_path, stop)
  assert left.value.code == 143
  assert [r["status"] for r in records(tmp_path, "end")] == ["stopped"]
  assert go(tmp_path).values == whole[1].values
  assert len(records(tmp_path, "train")) == 4


def test_a_signal_before_the_training_is_not_put_off(tmp_path, monkeypatch):
  """The program's farewell answers it; no checkpoint is forced."""
  stop, heard = stop_lib.StopSignal(), []

  def leave(code):
    raise SystemExit(code)

  stop.leave = leave
  monkeypatch.setattr(
    run_lib.models, "create", lambda *_, **__: stop.receive(15)
  )
  with stop.nothing_to_save(heard.append), pytest.raises(SystemExit):
    go(tmp_path, stop)
  assert heard == [15]
  assert not (tmp_path / CELL / "checkpoints").exists()


def test_the_steps_since_the_last_line_are_written_at_a_stop(whole, tmp_path):
  with pytest.raises(stop_lib.Stopped):
    go(tmp_path, StopsAt(3), **{"logging.log_every_steps": 4})
  (line,) = records(tmp_path, "train")
  steps = records(whole[0], "train")[:3]
  assert line["step"] == 3
  assert line["loss"] == pytest.approx(np.mean([r["loss"] for r in steps]))


def test_a_state_that_is_not_finite_is_not_kept(tmp_path):
  """The first step's update is NaN: a rate of 0, of an infinite peak."""
  keys = {"optimizer.learning_rate": 1e39, "optimizer.clip_norm": 0.0}
  with pytest.raises(UsageError, match=r"step \d: the .* try a lower"):
    go(tmp_path, **keys, **{"checkpoint.every_steps": 1})
  assert not list((tmp_path / CELL / "checkpoints").iterdir())
  (end,) = records(tmp_path, "end")
  assert end["status"] == "failed"
  assert not records(tmp_path, "eval")
