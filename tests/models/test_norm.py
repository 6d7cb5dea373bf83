"""BatchNorm against PyTorch's conventions, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax.models.norm import BatchNorm


def _data(batch=12, dim=3):
  return np.random.default_rng(0).normal(2.0, 3.0, (batch, dim))


def _train(module, x):
  variables = module.init(jax.random.key(0), jnp.asarray(x), train=True)
  return module.apply(
    variables, jnp.asarray(x), train=True, mutable=["batch_stats"]
  )


def test_initialisation_records_no_batch():
  stats = BatchNorm().init(jax.random.key(0), _data(), train=True)
  stats = stats["batch_stats"]
  np.testing.assert_array_equal(stats["mean"], np.zeros(3))
  np.testing.assert_array_equal(stats["var"], np.ones(3))


def test_biased_output_and_unbiased_running_variance():
  x = _data()
  y, state = _train(BatchNorm(epsilon=1e-6, affine=False), x)
  expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  stats = state["batch_stats"]
  np.testing.assert_allclose(stats["mean"], 0.1 * x.mean(0), rtol=1e-5)
  np.testing.assert_allclose(
    stats["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5
  )


def test_running_statistics_are_used_in_evaluation():
  x = _data()
  variables = {
    "batch_stats": {"mean": jnp.full(3, 2.0), "var": jnp.full(3, 4.0)}
  }
  y = BatchNorm(epsilon=0.0, affine=False).apply(variables, x, train=False)
  np.testing.assert_allclose(y, (x - 2.0) / 2.0, rtol=1e-5)


def test_groups_are_neighbouring_rows():
  x = _data()
  y, state = _train(BatchNorm(affine=False, group_size=4), x)
  for start in range(0, 12, 4):
    part, _ = _train(BatchNorm(affine=False), x[start : start + 4])
    np.testing.assert_allclose(y[start : start + 4], part, atol=1e-5)
  grouped = x.reshape(3, 4, 3)
  np.testing.assert_allclose(
    state["batch_stats"]["var"],
    0.9 + 0.1 * grouped.var(1, ddof=1).mean(0),
    rtol=1e-5,
  )


def test_equals_torch():
  torch = pytest.importorskip("torch")
  x = _data().astype(np.float32)
  reference = torch.nn.BatchNorm1d(3, eps=1e-6)
  expected = reference(torch.from_numpy(x)).detach().numpy()
  y, state = _train(BatchNorm(epsilon=1e-6), x)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  np.testing.assert_allclose(
    state["batch_stats"]["var"], reference.running_var.numpy(), rtol=1e-5
  )


def test_group_must_divide_the_batch():
  with pytest.raises(ValueError, match="group_size 5 does not divide"):
    _train(BatchNorm(group_size=5), _data())
