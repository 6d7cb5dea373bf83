"""One step, whatever the devices, the micro-batches and the probe."""

import re

import jax
import numpy as np
import pytest
import tiny

from mmae_jax import config as config_lib, objectives
from mmae_jax.evaluate import information
from mmae_jax.train import alarms, checkpoint, state as state_lib

LAYOUTS = {
  "8 devices": {"devices": 8},
  "2 x 4 fsdp": {"devices": 8, "fsdp": 4},
  "4 micro-batches": {"microbatches": 4},
  "2 micro-batches on 8 devices": {"devices": 8, "microbatches": 2},
}
OF_MASKED = ("2 x 4 fsdp", "2 micro-batches on 8 devices")
OF_TWO_VIEW = ("8 devices",)
# mmae goes through all layouts and byol, with a teacher, through a second one;
# the others through those that hold most, and through the second where there is
# time. Where there is BatchNorm there are no micro-batches. Of the ER methods
# one of vectors and one of classes stand for all, where there is no time, and
# for mae M-MAE, which it is a part of.
WHERE_THERE_IS_TIME = ("mae", "simclr_er", "swav_er", "deepcluster_er")
CASES = [
  pytest.param(
    name,
    layout,
    marks=[pytest.mark.slow] if name in WHERE_THERE_IS_TIME else [],
  )
  for name in objectives.available()
  for layout in LAYOUTS
  if name == "mmae"
  or layout in (OF_TWO_VIEW if name in tiny.TWO_VIEW else OF_MASKED)
  or (name, layout) == ("byol", "2 x 4 fsdp")
]
CASES += [
  pytest.param(name, "2 x 4 fsdp", marks=pytest.mark.slow)
  for name in tiny.TWO_VIEW
  if name != "byol"
]
# One without, the others with what is in a checkpoint beside the parameters:
# a teacher, queues, a centre, a bank.
STOPPED = ("mmae", "byol", "moco_v2", "swav", "dino", "deepcluster")
# Statistics between the images of a batch, or rows of a bank that is split over
# the devices: one gather of [batch, dim].
GATHERING = (
  *("byol_er", "deepcluster", "deepcluster_er", "moco_v2", "moco_v3"),
  *("simclr", "simclr_er"),
)


@pytest.fixture
def users_code(monkeypatch):
  """Compiles steps as users do: conftest.py has the machine code left plain."""
  compile_ = jax.stages.Lowered.compile
  options = {
    "xla_backend_optimization_level": 3,
    "xla_cpu_use_fusion_emitters": True,
  }
  monkeypatch.setattr(
    jax.stages.Lowered, "compile", lambda lowered: compile_(lowered, options)
  )


@pytest.fixture(scope="module")
def reference():
  """Six steps of each objective on one device, done once."""
  done = {}

  def get(name, x64):
    if (name, x64) not in done:
      run = tiny.Run(tiny.step_config(name))
      first = run.train(1)
      gradient = run.gradient
      metrics = first + run.train(5, first=1)
      done[name, x64] = run, metrics, (gradient, run.gradient)
    return done[name, x64]

  return get


def compare(run, reference, *, value, gradient, trajectory, folder=None):
  """Compares six steps; in `folder` the run stops and resumes after two."""
  _, metrics, (first, last) = reference
  got = run.train(1)
  assert tiny.gradient_error(run.gradient, first) < gradient
  np.testing.assert_allclose(got[0]["loss"], metrics[0]["loss"], rtol=value)
  got += run.train(1, first=1)
  if folder:
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    checkpoints.save(run.state, run.config, 2)
    checkpoints.wait()
  went_on = run.train(4, first=2)
  if folder:
    end = run.state
    run.state = checkpoints.restore(2, end, run.shardings)
    checkpoints.close()
    assert run.train(4, first=2) == went_on
    keyless = lambda state: jax.device_get(state.replace(key=None))
    jax.tree.map(np.testing.assert_array_equal, *map(keyless, (run.state, end)))
  got += went_on
  assert tiny.gradient_error(run.gradient, last) < trajectory
  np.testing.assert_allclose(
    [m["loss"] for m in got], [m["loss"] for m in metrics], rtol=trajectory
  )


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_the_layout_does_not_matter(
  name, layout, reference, monkeypatch, tmp_path
):
  """Nor does a stop: teacher, queue and statistics are in the checkpoint."""
  monkeypatch.setattr(state_lib, "_FSDP_MIN_SIZE", 64)
  # SwAV's vectors are put on the sphere when the state is made, in float32;
  # where fsdp splits them their lengths are summed in another order.
  begins_rounded = name in ("swav", "swav_er") and "fsdp" in layout
  is_stopped = name in STOPPED and "8 devices" in layout
  with jax.enable_x64(True):
    run = tiny.Run(tiny.step_config(name), **LAYOUTS[layout])
    compare(
      run,
      reference(name, True),
      value=1e-6 if begins_rounded else 1e-10,
      gradient=1e-6 if begins_rounded else 1e-10,
      trajectory=1e-5 if begins_rounded else 1e-9,
      folder=tmp_path / "checkpoints" if is_stopped else None,
    )
  if "devices" in layout:
    check_what_is_gathered(run, name)


def check_what_is_gathered(run, name):
  """Feature-side statistics (batch >= dim) are sums: one all-reduce."""
  text = run.step.as_text()
  assert "all-reduce" in text
  assert not re.findall(r"all-to-all|collective-permute", text)
  gathered = [
    np.prod([int(n) for n in shape.split(",")])
    for shape in re.findall(r"= \w+\[([\d,]+)\]\S* all-gather", text)
  ]
  assert len(gathered) == text.count(" all-gather(")
  if name not in GATHERING:
    assert not gathered
  # Both views' projections of width 16, never images or activations.
  assert all(size <= 2 * 64 * 16 for size in gathered), gathered


def test_shuffled_groups_on_eight_devices(tmp_path):
  """A ResNet whose BatchNorm works in groups: no activation moves."""
  config = tiny.shrink(tiny.load_config("moco_v2"))
  config.encoder.group_size = 8
  with jax.enable_x64(True):
    one, eight = tiny.Run(config), tiny.Run(config, devices=8)
    losses = [[m["loss"] for m in run.train(3)] for run in (one, eight)]
  np.testing.assert_allclose(*losses, rtol=1e-10)
  assert tiny.gradient_error(eight.gradient, one.gradient) < 1e-9
  check_what_is_gathered(eight, "moco_v2")


def test_the_queue_is_whole_on_every_device(monkeypatch):
  monkeypatch.setattr(state_lib, "_FSDP_MIN_SIZE", 64)
  config = tiny.step_config("moco_v2")
  carry = tiny.Run(config, devices=8, fsdp=4, compiled=False).state.carry
  assert carry["queue"].sharding.spec == jax.P()
  teacher = jax.tree.leaves(carry["teacher"]["params"])
  assert any("fsdp" in str(x.sharding.spec) for x in teacher)


def test_float32_on_eight_devices(reference, users_code):
  run = tiny.Run(tiny.shrink(tiny.load_config("mmae")), devices=8)
  compare(
    run, reference("mmae", False), value=1e-5, gradient=1e-4, trajectory=1e-4
  )


@pytest.fixture
def uncompiled(monkeypatch):
  """Leaves the step out of a `tiny.Run`, which is most of its time."""
  monkeypatch.setattr(tiny.step_lib, "compile_step", lambda *args: None)


def test_large_leaves_are_split(monkeypatch, uncompiled):
  monkeypatch.setattr(state_lib, "_FSDP_MIN_SIZE", 64)
  run = tiny.Run(tiny.shrink(tiny.load_config("mmae")), devices=8, fsdp=4)
  kernel = run.state.params["network"]["encoder"]["block_0"]["mlp"]["fc1"][
    "kernel"
  ]
  assert kernel.sharding.spec == jax.P(None, "fsdp")
  moments = [
    x for x in jax.tree.leaves(run.state.opt_state) if x.shape == kernel.shape
  ]
  assert all(x.sharding.spec == kernel.sharding.spec for x in moments)
  bias = run.state.params["network"]["encoder"]["norm"]["bias"]
  assert bias.sharding.spec == jax.P()


@pytest.mark.parametrize("name", objectives.available())
def test_a_collapse_is_told(name):
  """Of each objective's own branches, as the information plane reads them."""
  config = tiny.step_config(name)
  run = tiny.Run(config, compiled=False)
  # Features that do not depend on the image: all images are the same one.
  batch = {
    k: np.broadcast_to(v[:1], v.shape) for k, v in tiny.batch(config).items()
  }
  key = jax.random.key(0)
  branches = run.objective.branches(
    key, run.state.params["network"], run.state, tiny.photometry(key, batch)
  )
  values = information.measure(*list(branches.values())[:2])
  found = alarms.Alarms(
    config_lib.base().alarms.to_dict(), judged_from=20
  ).measured(30, {k: float(v) for k, v in values.items() if v.ndim == 0})
  assert "collapse" in {alarm.alarm for alarm in found}


def test_the_probe_changes_no_bit_of_the_network(users_code):
  config = tiny.shrink(tiny.load_config("mmae"))
  with_probe = tiny.Run(config, probe=True)
  without = tiny.Run(config, probe=False)
  first, second = with_probe.train(4), without.train(4)
  assert "probe_loss" in first[0] and "probe_loss" not in second[0]
  for name in ("loss", "grad_norm"):
    assert [m[name] for m in first] == [m[name] for m in second]
  jax.tree.map(
    np.testing.assert_array_equal,
    with_probe.state.params["network"],
    without.state.params["network"],
  )


def test_a_row_permutation_changes_nothing(uncompiled):
  """Draws belong to the image: the mask moves with it."""
  config = tiny.shrink(tiny.load_config("mmae"))
  with jax.enable_x64(True):
    run = tiny.Run(config)
    key = jax.random.key(1)
    batch = tiny.batch(config)
    order = np.random.default_rng(0).permutation(config.batch_size)

    @jax.jit
    def loss(batch):
      return run.objective.loss(
        key,
        run.state.params["network"],
        run.state,
        tiny.photometry(key, batch),
      )[0]

    permuted = {name: x[order] for name, x in batch.items()}
    np.testing.assert_allclose(loss(permuted), loss(batch), rtol=1e-12)


def test_labels_do_not_reach_the_network():
  config = tiny.shrink(tiny.load_config("mmae"))
  run = tiny.Run(config)
  views = tiny.photometry(jax.random.key(0), tiny.batch(config))
  assert "label" not in views
  before = np.array(run.state.params["network"]["encoder"]["cls_token"])
  state = jax.tree.map(lambda x: x.copy(), run.state)
  rows = jax.NamedSharding(run.mesh, state_lib.BATCH)
  batch = tiny.batch(config)
  other = batch | {"label": np.full_like(batch["label"], 3)}
  first, second = run.state, state
  for _ in range(2):  # the first step of a warm-up has learning rate zero
    first, _ = run.step(first, jax.device_put(batch, rows))
    second, _ = run.step(second, jax.device_put(other, rows))
  jax.tree.map(
    np.testing.assert_array_equal,
    first.params["network"],
    second.params["network"],
  )
  assert np.any(first.params["probe"]["bias"] != second.params["probe"]["bias"])
  assert np.any(before != first.params["network"]["encoder"]["cls_token"])
