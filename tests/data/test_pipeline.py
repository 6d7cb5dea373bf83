"""Order, restart and bytes of the batches; their way onto the devices."""

from absl import flags
import jax
from jax.sharding import AxisType
import numpy as np
import pytest

from mmae_jax.data import crops, photometry, pipeline, source
from mmae_jax.types import UsageError


def _take(count, train, config, **kwargs):
  iterator = pipeline.host_batches(train, config, **kwargs)
  batches = [next(iterator) for _ in range(count)]
  iterator.close()
  return batches


def _assert_equal(left, right):
  assert left.keys() == right.keys()
  for name in left:
    np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.fixture
def config(make_config):
  return make_config(train_split="train[:100]")


@pytest.fixture
def train(config):
  return source.open_source(config, "train")


@pytest.fixture(scope="module")
def mesh():
  return jax.make_mesh(
    (4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2
  )


def test_shapes_and_types(train, config):
  (batch,) = _take(1, train, config)
  shapes = pipeline.batch_shapes(config)
  assert batch.keys() == shapes.keys()
  for name, shape in shapes.items():
    assert (batch[name].shape, batch[name].dtype) == (shape.shape, shape.dtype)


def test_every_epoch_is_another_order_of_distinct_images(train, config):
  steps = pipeline.steps_per_epoch(train, config.batch_size)
  assert steps == 6  # 100 images, the tail of 4 is dropped
  batches = _take(2 * steps, train, config)
  first, second = (
    np.concatenate([b["index"] for b in batches[k : k + steps]])
    for k in (0, steps)
  )
  for epoch in (first, second):
    assert len(set(epoch.tolist())) == steps * config.batch_size
  assert (first != second).any()


def test_rows_are_keyed_by_seed_and_position(train, config):
  config.seed = 3
  (batch,) = _take(1, train, config, start_step=7)
  views = crops.read_views(config.views)
  for row in (0, 15):
    bits = np.random.Philox(key=[3, 7 * 16 + row])
    assert batch["seed"][row] == bits.random_raw() & 0xFFFFFFFF
    expected = crops.random_views(
      np.random.Generator(bits), train[batch["index"][row]]["image"], views
    )
    np.testing.assert_array_equal(batch["global"][row], expected["global"])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_rows_in_order(train, config, hosts):
  whole = _take(8, train, config)
  parts = [_take(8, train, config, host=(h, hosts)) for h in range(hosts)]
  for batch, *split in zip(whole, *parts, strict=True):
    joined = {k: np.concatenate([part[k] for part in split]) for k in batch}
    _assert_equal(batch, joined)


@pytest.mark.parametrize("host", [(0, 1), (1, 2)])
def test_restart_repeats_the_batches(train, config, host):
  whole = _take(10, train, config, host=host)
  for batch, again in zip(
    whole[7:],
    _take(3, train, config, host=host, start_step=7),
    strict=True,
  ):
    _assert_equal(batch, again)


def test_memory_disk_and_threads_make_the_same_bytes(train, config):
  expected = _take(3, train, config, start_step=5)
  config.data.cache_gib = 0.0
  on_disk = source.open_source(config, "train")
  assert train.in_memory and not on_disk.in_memory
  for threads in (1, 5):
    config.data.threads = threads
    for left, right in zip(
      expected, _take(3, on_disk, config, start_step=5), strict=True
    ):
      _assert_equal(left, right)


def test_workers_make_the_same_bytes(train, config):
  expected = _take(3, train, config, start_step=5)
  config.data.update(cache_gib=0.0, workers=2)
  on_disk = source.open_source(config, "train")
  for left, right in zip(
    expected, _take(3, on_disk, config, start_step=5), strict=True
  ):
    _assert_equal(left, right)
  assert flags.FLAGS.is_parsed()


def test_global_batches_hold_the_rows_of_the_host(train, config, mesh):
  expected = _take(2, train, config, start_step=4)
  batches = pipeline.batches(train, config, mesh=mesh, start_step=4)
  with jax.transfer_guard("disallow"):
    on_devices = [next(batches) for _ in range(2)]
  batches.close()
  for batch, host in zip(on_devices, expected, strict=True):
    assert batch["global"].addressable_shards[0].data.shape[0] == 2
    _assert_equal({k: np.asarray(v) for k, v in batch.items()}, host)


def test_evaluation_sees_each_image_once_in_order(train, config, mesh):
  batches = list(
    pipeline.evaluation_batches(train, config, mesh=mesh, batch_size=24)
  )
  whole = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  assert len(batches) == 5
  assert whole["valid"].tolist() == [True] * 100 + [False] * 20
  assert whole["index"].tolist() == [*range(100)] + [-1] * 20
  assert (whole["label"][100:] == -1).all()
  np.testing.assert_array_equal(
    whole["label"][:100], [train[i]["label"] for i in range(100)]
  )
  np.testing.assert_array_equal(whole["global"][7, 0], train[7]["image"])
  assert not whole["global"][100:].any()


def test_evaluation_on_two_hosts_reads_its_own_rows(train, config):
  devices = jax.make_mesh(
    (1, 1),
    ("data", "fsdp"),
    axis_types=(AxisType.Auto,) * 2,
    devices=jax.devices()[:1],
  )
  batches = pipeline.evaluation_batches(
    train, config, mesh=devices, batch_size=40, host=(1, 2)
  )
  rows = [np.asarray(batch["index"]).tolist() for batch in batches]
  assert rows == [[*range(20, 40)], [*range(60, 80)], [-1] * 20]


def test_batches_that_do_not_fit(train, config, mesh):
  config.batch_size = 101
  with pytest.raises(UsageError, match=r"batch_size=101.*100 images"):
    pipeline.host_batches(train, config)
  config.batch_size = 12
  with pytest.raises(UsageError, match=r"batch_size=12.*8 devices"):
    pipeline.batches(train, config, mesh=mesh)
  with pytest.raises(UsageError, match=r"batch_size=12.*5 hosts"):
    pipeline.host_batches(train, config, host=(0, 5))
  with pytest.raises(UsageError, match=r"evaluation.batch_size=12.*8 devices"):
    pipeline.evaluation_batches(train, config, mesh=mesh, batch_size=12)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(train, config, seed):
  config.seed = seed
  with pytest.raises(UsageError, match=f"--config.seed={seed}"):
    pipeline.host_batches(train, config)


def test_photometry_normalises_and_drops_labels(train, config):
  (batch,) = _take(1, train, config)
  views = photometry.make_photometry(config)(jax.random.key(0), batch)
  assert set(views) == {"global", "index", "seed"}
  view = config.views["global"]
  expected = (batch["global"] / 255.0 - view.mean) / np.array(view.std)
  assert views["global"].dtype == np.float32
  np.testing.assert_allclose(views["global"], expected, atol=1e-5)
  np.testing.assert_array_equal(
    photometry.denormalise(views["global"], mean=view.mean, std=view.std),
    batch["global"],
  )


@pytest.mark.parametrize("key, value", [("std", (1, 0, 1)), ("mean", (0.5,))])
def test_photometry_checks_its_constants(config, key, value):
  with config.ignore_type():
    config.views["global"][key] = value
  with pytest.raises(UsageError, match=key):
    photometry.make_photometry(config)
