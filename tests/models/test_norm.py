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


def test_groups_equal_a_permutation_into_neighbours():
  """Value, running statistics and gradient, for MoCo's shuffled BatchNorm."""
  rng = np.random.default_rng(1)
  order = rng.permutation(12)
  groups = np.empty(12, np.int32)
  groups[order] = np.arange(12) // 4
  with jax.enable_x64(True):
    x, weight = jnp.asarray(rng.normal(2.0, 3.0, (2, 12, 2, 5, 3)))
    module = BatchNorm(group_size=4)
    variables = module.init(jax.random.key(0), x[:1], train=True)

    @jax.jit
    def run(x, weight, groups=None):
      def loss(x):
        y, state = module.apply(
          variables, x, train=True, groups=groups, mutable=["batch_stats"]
        )
        return (y * weight).sum(), (y, state)

      return jax.grad(loss, has_aux=True)(x)

    gradient, (y, state) = run(x, weight, jnp.asarray(groups))
    moved_gradient, (moved, moved_state) = run(x[order], weight[order])
  assert y.dtype == jnp.float64
  np.testing.assert_allclose(y[order], moved, atol=1e-12)
  np.testing.assert_allclose(gradient[order], moved_gradient, atol=1e-12)
  for name in ("mean", "var"):
    stats, expected = (s["batch_stats"][name] for s in (state, moved_state))
    assert stats.dtype == jnp.float64
    np.testing.assert_allclose(stats, expected, rtol=1e-12)


def test_groups_are_ignored_without_group_size_and_in_evaluation():
  x, groups = _data(), jnp.zeros(12, jnp.int32)
  for size, train in ((0, True), (4, False)):
    module = BatchNorm(group_size=size)
    variables = module.init(jax.random.key(0), x, train=True)
    ys = [
      module.apply(
        variables, x, train=train, groups=g, mutable=["batch_stats"]
      )[0]
      for g in (None, groups)
    ]
    np.testing.assert_array_equal(*ys)


@pytest.mark.parametrize(
  ("settings", "names"),
  [
    ({}, {"scale", "bias"}),
    ({"use_bias": False}, {"scale"}),
    ({"affine": False}, set()),
  ],
)
def test_parameters(settings, names):
  variables = BatchNorm(**settings).init(jax.random.key(0), _data(), train=True)
  assert set(variables.get("params", {})) == names


def test_variance_beside_a_large_mean():
  x = (_data(64) / 3 + 1e4).astype(np.float32)
  y, _ = _train(BatchNorm(affine=False), x)
  exact = x.astype(np.float64)
  expected = (exact - exact.mean(0)) / exact.std(0)
  np.testing.assert_allclose(y, expected, atol=2e-3)


def test_groups_of_another_shape():
  module = BatchNorm(group_size=4)
  variables = module.init(jax.random.key(0), _data(), train=True)
  with pytest.raises(ValueError, match=r"groups must be \[12\], got \[3\]"):
    module.apply(variables, _data(), train=True, groups=jnp.zeros(3, int))
