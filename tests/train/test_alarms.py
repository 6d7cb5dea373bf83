"""Alarms: each on a series made for it, none on healthy ones; and the stop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

from mmae_jax import checks, config as config_lib
from mmae_jax.train import (
  alarms as alarms_lib,
  diagnostics,
  digests,
  loop,
  watch as watch_lib,
)
from mmae_jax.train.metrics import Metrics, read_metrics
from mmae_jax.types import RunInfo, UsageError

# Effective ranks of healthy runs on digits, a twentieth of the run apart: the
# poorest beginning that was seen (MAE), and the deepest passing fall (U-MAE).
HEALTHY = [
  [1.10, 1.045, 1.372, 1.486, 2.168, 1.946, 1.789, 1.766, 1.726, 2.032, 2.336],
  [1.10, 1.3, 1.63, 3.0, 4.71, 3.9, 3.20, 3.24, 3.24, 3.14, 3.46, 4.55, 5.04],
]


def make(*, judged_from=20, **changes):
  thresholds = config_lib.base().alarms.to_dict() | changes
  return alarms_lib.Alarms(thresholds, judged_from=judged_from)


def names(found):
  return [alarm.alarm for alarm in found]


def measure(alarms, ranks, *, every=10, quantity="effective_rank"):
  """[(step, name)] of the alarms of a series of ranks, from step 0 on."""
  return [
    (alarm.step, alarm.alarm)
    for i, rank in enumerate(ranks)
    for alarm in alarms.measured(every * i, {quantity: rank})
  ]


def steps(losses, norms=None, *, first=1):
  norms = np.ones_like(losses) if norms is None else norms
  return [
    (first + i, {"loss": np.float32(a), "grad_norm": np.float32(b)})
    for i, (a, b) in enumerate(zip(losses, norms, strict=True))
  ]


def healthy_steps(count=600):
  """A loss that falls, and a gradient that falls, then grows in warm-up."""
  rng = np.random.default_rng(0)
  i = np.arange(count)
  loss = 0.4 + np.exp(-i / 40) + 0.03 * rng.normal(size=count)
  norm = 5 * np.exp(-i / 20) + 0.2 + 0.4 * np.minimum(i / 300, 1)
  return loss, norm * rng.gamma(9, 1 / 9, count)


@pytest.mark.parametrize("ranks", HEALTHY, ids=["mae", "umae"])
def test_healthy_ranks_raise_nothing(ranks):
  assert measure(make(), ranks) == []


def test_healthy_steps_raise_nothing_in_warm_up_or_later():
  assert make().trained(steps(*healthy_steps())) == []


@pytest.mark.parametrize("quantity", ["effective_rank", "effective_rank_b"])
def test_a_rank_under_the_floor_is_a_collapse(quantity):
  ranks = [1.1, 1.05, 3.0, 1.12, 1.01, 1.25, 1.4, 1.1]
  found = measure(make(fall=0, rank_share=0), ranks, quantity=quantity)
  # Once; 1.25 is no recovery yet, 1.4 is.
  assert found == [(30, "collapse"), (70, "collapse")]


def test_a_constant_feature_is_a_collapse_at_any_time():
  assert measure(make(), [1.1, 1.0]) == [(10, "collapse")]
  assert measure(make(collapse_rank=0), [1.1, 1.0]) == []


def test_a_sudden_fall_is_a_collapse():
  ranks = [1.1, 2, 40, 42, 41, 11]
  assert measure(make(), ranks) == [(50, "collapse")]


def test_no_entropy_left_is_a_collapse():
  alarms = make()
  values = {"sample_entropy_2_a": 0.02, "effective_rank_a": 1.5}
  assert alarms.measured(10, values) == []  # still young
  (alarm,) = alarms.measured(20, values)
  assert (alarm.quantity, alarm.value) == ("sample_entropy_2_a", 0.02)
  assert alarm.threshold == 0.03
  assert "--config.optimizer.base_learning_rate" in str(alarm)


def test_a_rank_that_stays_far_under_its_best_is_a_dimensional_collapse():
  ranks = [2, 5, 30, 40, 18, 21, 16, 15, 14, 13]
  # 18 alone is no long time; 16, 15, 14 are under 20 for three measurements.
  assert measure(make(), ranks) == [(80, "dimensional_collapse")]
  assert measure(make(rank_share=0), ranks) == []


def test_dead_features_are_told_unless_all_has_collapsed():
  values = {"dead_features": 20, "dimensions": 64, "effective_rank_a": 3.0}
  alarms = make()
  assert names(alarms.measured(30, values)) == ["dead_features"]
  assert alarms.measured(40, values) == []
  assert make().measured(30, values | {"dead_features": 16}) == []
  gone = values | {"dead_features": 64, "effective_rank_a": 1.0}
  assert names(make().measured(30, gone)) == ["collapse"]


@pytest.mark.parametrize("quantity", ["loss", "grad_norm"])
def test_a_spike_of_one_step_is_told_once(quantity):
  series = dict(zip(("loss", "grad_norm"), healthy_steps(), strict=True))
  series[quantity][[300, 301, 305]] *= 20
  series[quantity][450] *= 20  # long after: recovered
  found = make().trained(steps(series["loss"], series["grad_norm"]))
  name = {"loss": "loss_spike", "grad_norm": "gradient_spike"}[quantity]
  assert [(a.step, a.alarm) for a in found] == [(301, name), (451, name)]
  assert found[0].value > found[0].threshold
  off = make(**{name: 0})
  assert off.trained(steps(series["loss"], series["grad_norm"])) == []


def test_steps_in_which_nothing_is_learned_are_no_scale_for_a_spike():
  """DeepCluster's first epoch: loss and gradient are zero."""
  alarms = make()
  idle = [(i, {"loss": 0.0, "grad_norm": 0.0}) for i in range(1, 200)]
  assert not alarms.trained(idle)
  assert not alarms.trained([(200, {"loss": 4.0, "grad_norm": 9.0})])


def test_an_even_series_is_no_scale_for_a_spike():
  losses = np.full(100, -4.0)
  losses[60] = -3.7
  assert make().trained(steps(losses)) == []
  losses[60] = -1.0
  assert names(make().trained(steps(losses))) == ["loss_spike"]


def test_the_first_steps_are_not_judged():
  losses = np.ones(30)
  losses[20] = 100
  assert make().trained(steps(losses)) == []


def test_starvation_needs_several_intervals():
  alarms = make()
  shares = [0.9, 0.9, 0.1, 0.8, 0.7, 0.9, 0.9, 0.2]
  found = [a for i, x in enumerate(shares) for a in alarms.waited(i, x)]
  assert [(a.step, a.alarm) for a in found] == [(5, "data_starvation")]
  assert alarms.active == set()


def test_what_is_not_finite_or_unknown_is_not_read():
  values = {
    "effective_rank": None,
    "effective_rank_a": float("nan"),
    "kind": "",
  }
  assert make().measured(30, values) == []


@pytest.mark.parametrize(
  ("key", "value"),
  [("on_alarm", "halt"), ("alarms.fall", 1.5), ("alarms.patience", 0)],
)
def test_bad_settings_are_named(key, value):
  with pytest.raises(UsageError, match=f"--config.{key}={value}: must be"):
    checks.check(runs.config(**{key: value}))


def test_alarms_are_outside_of_the_identity():
  one, other = runs.config(), runs.config(**{"on_alarm": "stop"})
  other.alarms.fall = 0.1
  assert config_lib.digest(one) == config_lib.digest(other)


# ------------------------------------------------------------- what is done


class Deeds:
  """Stands for the run's metrics and checkpoints; remembers what was asked."""

  def __init__(self):
    self.alarms, self.protected = [], 0

  def record(self, kind, step, values, *, epoch):
    self.alarms.append((kind, step, values["alarm"], epoch))

  def say(self, text):
    pass

  def wait(self):
    pass

  def protect(self, step):
    self.protected = step


def watching(folder, on_alarm):
  """(a Watch of 1,000 steps, 10 an epoch, what it does)."""
  info = RunInfo(1000, 10, 640, 64)
  deeds = Deeds()
  config = runs.config(on_alarm=on_alarm)
  return watch_lib.Watch(config, info, folder, deeds, deeds), deeds


def spike(at):
  losses = np.ones(100)
  losses[at] = 100
  return steps(losses)


def test_a_spike_stops_at_the_newest_checkpoint(tmp_path):
  watch, deeds = watching(tmp_path, "stop")
  with pytest.raises(
    watch_lib.Alarmed, match="alarm loss_spike at step 61"
  ) as e:
    watch.trained(100, spike(60), 50)
  assert "checkpoints/50 " in str(e.value)
  assert deeds.alarms == [("alarm", 61, "loss_spike", 6.1)]


def test_a_warning_goes_on_and_no_step_counts_twice(tmp_path):
  watch, deeds = watching(tmp_path, "warn")
  watch.trained(80, spike(60)[:80], 50)
  watch.trained(100, spike(60), 50)
  assert [name for _, _, name, _ in deeds.alarms] == ["loss_spike"]


def test_slow_data_and_the_last_step_stop_nothing(tmp_path):
  watch, deeds = watching(tmp_path, "stop")
  for step in (10, 20, 30):
    watch.logged(step, {"data_wait": 0.9}, 0)
  watch.measured(1000, {"effective_rank": 1.0}, 950)
  names = [name for _, _, name, _ in deeds.alarms]
  assert names == ["data_starvation", "collapse"]


def test_the_checkpoint_that_was_found_healthy_is_protected(tmp_path):
  watch, deeds = watching(tmp_path, "stop")
  watch.measured(600, {"effective_rank": 3.0}, 590)
  assert deeds.protected == 590
  with pytest.raises(watch_lib.Alarmed, match="checkpoints/590 "):
    watch.measured(700, {"effective_rank": 1.1}, 690)
  assert deeds.protected == 590


def test_a_continued_run_knows_its_ranks(tmp_path):
  for step in (500, 590):
    (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
  with Metrics(
    tmp_path, total_steps=1000, tensorboard=False, terminal=False
  ) as metrics:
    metrics.record("plane", 550, {"effective_rank_a": 30.0})
    metrics.record("plane", 800, {"effective_rank_a": 1.0})  # is superseded
  config, deeds = runs.config(on_alarm="stop"), Deeds()
  watch = watch_lib.Watch(
    config, RunInfo(1000, 10, 640, 64), tmp_path, deeds, deeds, step=590
  )
  assert deeds.protected == 500  # 590 was not measured
  with pytest.raises(watch_lib.Alarmed, match="checkpoints/500 "):
    watch.measured(600, {"effective_rank_a": 5.0}, 590)
  assert (tmp_path / "unhealthy" / "590-0").is_dir()


# ---------------------------------------------------------------- a whole run


@pytest.fixture
def constant_from_12(monkeypatch):
  """The encoder gives zeros for every image after 12 steps."""
  select = loop.objectives.select

  def collapse(params, carry, step):
    norm = params["encoder"]["norm"]
    zeroed = jax.tree.map(lambda x: jnp.where(step >= 11, 0, x), norm)
    encoder = params["encoder"] | {"norm": zeroed}
    return params | {"encoder": encoder}, carry

  def selected(*args):
    return dataclasses.replace(select(*args), after_update=collapse)

  monkeypatch.setattr(loop.objectives, "select", selected)
  runs.on_one_device(monkeypatch)
  # The information plane is enough to see it.
  monkeypatch.setattr(diagnostics.Diagnostics, "evaluate", lambda *a, **k: {})


def test_a_collapse_is_named_and_the_healthy_checkpoint_kept(
  constant_from_12, tmp_path, capsys
):
  changes = {
    "checkpoint.keep": 1,  # 10 has to outlive 15 and 20
    **{"plane.every": 10 / 22, "plane.size": 40, "plane.sample_rows": 20},
  }
  with pytest.raises(UsageError) as e:
    loop.run(runs.config(on_alarm="stop", **changes), tmp_path)
  said = str(e.value)
  assert (
    "stopped by the alarm collapse at step 20 (effective_rank_a 1, " in said
  )
  assert f"healthy checkpoint is kept: {tmp_path}/checkpoints/10" in said
  assert "--config.on_alarm=warn continues" in said and "\n" not in said
  assert digests.steps(tmp_path / "checkpoints") == [10]
  assert digests.fault(tmp_path / "checkpoints" / "10") is None
  assert (tmp_path / "unhealthy" / "20-0").is_dir()
  records = read_metrics(tmp_path)
  assert records[-1]["kind"] == "end" and records[-1]["status"] == "alarm"
  (alarm,) = [r for r in records if r["kind"] == "alarm"]
  assert alarm["alarm"] == "collapse" and alarm["step"] == 20
  assert alarm["threshold"] > alarm["value"] == 1
  assert "Alarms" in (tmp_path / "report.html").read_text()

  capsys.readouterr()
  loop.run(runs.config(on_alarm="warn", **changes), tmp_path)
  said = capsys.readouterr().out
  assert "continuing from step 10" in said
  assert said.count("alarm collapse at step 20") == 1
  assert said.count("alarm ") == 1
  assert read_metrics(tmp_path)[-1]["status"] == "finished"
  assert digests.steps(tmp_path / "checkpoints") == [22]
