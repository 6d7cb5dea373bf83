"""The trainer: exact restarts, micro-batches, devices, adapters."""

import jax
import jax.numpy as jnp
from language import small
import numpy as np
import pytest

pytest.importorskip("tunix", reason='needs the extra "language"')

from flax import nnx

from mmae_jax.language import (
  batches,
  datasets,
  families,
  loss as loss_lib,
  models,
  sharding,
  trainer as trainer_lib,
  weights as weights_lib,
)
from mmae_jax.types import UsageError

STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  config = small.config(**{"tokenizer.kind": "bytes", "data.length": 176})
  problems = datasets.read_problems(config.data)
  tokenizer = datasets.open_tokenizer(config, problems.train, None)
  return datasets.encode(config, problems, tokenizer)


class Run:
  """A trainer of the smallest model on some devices."""

  def __init__(
    self,
    data,
    folder=None,
    *,
    weight=1.0,
    mesh=(1, 1),
    vocabulary=259,
    lora=0,
    every_steps=100,
    **options,
  ):
    config = small.config(**{"lora.rank": lora})
    self.mesh = sharding.make_mesh(fsdp=mesh[0], tp=mesh[1])
    sizes = families.from_config(config.model, vocabulary)
    self.order = batches.shuffled(data.train, seed=0, batch_size=8)
    self.records = {}
    with self.mesh:
      self.model = models.create(jax.random.key(0), sizes, self.mesh)
      if lora:
        self.model = weights_lib.add_lora(
          jax.random.key(1), self.model, config.lora, self.mesh
        )
      schedule = trainer_lib.learning_rate(config.optimizer, STEPS)
      self.trainer = trainer_lib.Trainer(
        self.model,
        trainer_lib.make_loss(loss_lib.MatrixTerm(weight=weight), **options),
        trainer_lib.make_optimizer(config.optimizer, schedule),
        checkpoints=None if folder is None else str(folder),
        every_steps=every_steps,
        keep=1,
        record=self.records.__setitem__,
      )

  def fit(self, stop_after=STEPS):
    stop = lambda: self.trainer.train_steps >= stop_after
    with self.mesh:
      self.trainer.fit(self.order, STEPS, stop)
    return self

  @property
  def params(self):
    return [np.asarray(x) for x in jax.tree.leaves(nnx.state(self.model))]


def test_two_steps_and_a_restart_and_two_are_four(data, tmp_path):
  whole = Run(data, tmp_path / "whole").fit()
  Run(data, tmp_path / "parts").fit(stop_after=2)
  rest = Run(data, tmp_path / "parts")
  assert rest.trainer.train_steps == 2
  rest.fit()
  for a, b in zip(whole.params, rest.params, strict=True):
    np.testing.assert_array_equal(a, b)
  assert list(whole.records) == [1, 2, 3, 4]
  assert list(rest.records) == [3, 4]
  assert rest.records[4]["loss"] == whole.records[4]["loss"]
  assert set(whole.records[4]) == {"loss", "ce", "mce", "grad_norm"}


def test_a_finished_run_trains_no_more(data, tmp_path):
  done = Run(data, tmp_path).fit()
  again = Run(data, tmp_path).fit()
  assert not again.records
  for a, b in zip(done.params, again.params, strict=True):
    np.testing.assert_array_equal(a, b)


def test_checkpoints_of_another_model_are_refused(data, tmp_path):
  Run(data, tmp_path).fit(stop_after=1)
  with pytest.raises(UsageError, match="choose another --workdir"):
    Run(data, tmp_path, vocabulary=264)


def test_the_loss_is_the_sum_that_is_recorded(data):
  first = Run(data, weight=0.25).fit(stop_after=1).records[1]
  expected = float(first["ce"]) + 0.25 * float(first["mce"])
  np.testing.assert_allclose(first["loss"], expected, rtol=1e-6)
  plain = Run(data, weight=0.0).fit(stop_after=1).records[1]
  assert "mce" not in plain and plain["ce"] == first["ce"]


def gradient(data, *, mesh=(1, 1), **options):
  """(loss, gradient) of the first batch, in the model's order of leaves."""
  run = Run(data, mesh=mesh, vocabulary=264)
  loss = trainer_lib.make_loss(
    loss_lib.MatrixTerm(detached=False, embeddings="output"), **options
  )
  batch = jax.tree.map(jnp.asarray, run.order(0) | {"step": np.int32(0)})

  def total(model):
    return loss(model, **batch)[0]

  with run.mesh:
    value, grads = nnx.jit(nnx.value_and_grad(total))(run.model)
  return float(value), [np.asarray(g) for g in jax.tree.leaves(grads)]


def same(found, expected, tolerance):
  np.testing.assert_allclose(found[0], expected[0], rtol=tolerance)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in expected[1]))
  for a, b in zip(found[1], expected[1], strict=True):
    error = np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-3 * norm)
    assert error < 10 * tolerance


def test_micro_batches_have_the_mean_of_the_whole_batch(data):
  same(gradient(data, microbatches=4), gradient(data), 1e-5)


@pytest.mark.parametrize("mesh", [(8, 1), (4, 2)])
def test_eight_devices_equal_one(data, mesh):
  """The vocabulary is split over `tp`, batch and parameters over `fsdp`."""
  same(gradient(data, mesh=mesh), gradient(data), 1e-5)


def test_a_forward_pass_in_bfloat16_leaves_float32_parameters(data):
  run = Run(data, compute_dtype=jnp.bfloat16).fit(stop_after=1)
  assert {x.dtype for x in run.params} == {np.dtype(np.float32)}
  assert np.isfinite(run.records[1]["loss"])


def test_adapters_move_and_nothing_else(data, tmp_path):
  def split(model):
    parts = nnx.split(model, nnx.LoRAParam, ...)[1:]
    return [[np.asarray(x) for x in jax.tree.leaves(part)] for part in parts]

  run = Run(data, tmp_path, lora=2)
  before = split(run.model)
  run.fit()
  after = split(run.model)
  assert any(np.any(a != b) for a, b in zip(before[0], after[0], strict=True))
  for a, b in zip(before[1], after[1], strict=True):
    np.testing.assert_array_equal(a, b)
  again = split(Run(data, tmp_path, lora=2).model)
  for a, b in zip(after[0], again[0], strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_learning_rate():
  optimizer = small.config(
    **{"optimizer.learning_rate": 2e-5, "optimizer.warmup": 0.03}
  ).optimizer
  rate = trainer_lib.learning_rate(optimizer, 1000)
  np.testing.assert_allclose(
    [float(rate(step)) for step in (0, 15, 30, 515, 1000)],
    [0.0, 1e-5, 2e-5, 1e-5, 0.0],
    atol=1e-9,
  )


def test_the_7b_recipe_is_traced_at_full_size(tmp_path):
  """Llemma's sizes, MetaMath's batch: shapes alone, nothing is computed."""
  from language.test_families import LLEMMA_7B, write

  config = small.recipes.language("matrix_llm", "gsm8k_llemma_7b")
  sizes = families.from_folder(write(tmp_path, LLEMMA_7B))
  settings = models.tunix_config(sizes, remat=config.model.remat)
  model = nnx.eval_shape(
    lambda: models.CLASSES["llama"](settings, rngs=nnx.Rngs(params=0))
  )
  graph, state = nnx.split(model)
  assert sum(x.size for x in jax.tree.leaves(state)) == 6_738_546_688
  (weight,) = config.loss.weights
  term = loss_lib.read_term(config.loss, weight)
  loss = trainer_lib.make_loss(
    term, compute_dtype=jnp.bfloat16, microbatches=config.microbatches
  )
  shape = (config.batch_size, config.data.length)
  of = lambda dtype, shape=shape: jax.ShapeDtypeStruct(shape, dtype)

  def step(state, tokens, valid, response, step):
    def total(state):
      model = nnx.merge(graph, state)
      return loss(model, tokens, valid, response, step)

    return jax.value_and_grad(total, has_aux=True)(state)

  (value, means), grads = jax.eval_shape(
    step, state, of(np.int32), of(bool), of(bool), of(np.int32, ())
  )
  assert value.shape == () and set(means) == {"ce", "mce"}
  shapes = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
  assert shapes(grads) == shapes(state)


def test_only_a_finite_state_is_saved(data, tmp_path):
  whole = Run(data, tmp_path, every_steps=1)
  whole.fit(stop_after=2)
  broken = Run(data, tmp_path, every_steps=1)
  broken.order = lambda step: _spoil(broken, whole.order(step))
  with pytest.raises(UsageError, match="step 3: the parameters are no longer"):
    broken.fit()
  again = Run(data, tmp_path, every_steps=1)
  assert again.trainer.train_steps == 2
  for a, b in zip(whole.params, again.params, strict=True):
    np.testing.assert_array_equal(a, b)


def _spoil(run, batch):
  """The batch; before its step, a parameter is NaN."""
  parameter = run.model.final_norm.w
  parameter[...] = parameter[...] * np.nan
  return batch
