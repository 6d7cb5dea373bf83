"""LARS, SGD and the schedule against recorded numbers and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmae_jax.train import lars, optimizer

# specs/masked_autoencoders.md section 1.8, recorded from the MAE program.
STEPS = (
  (
    0.5,
    [[0.1, -0.2], [0.3, 0.4]],
    [0.01, 0.02],
    [[0.9995, 2.001], [2.9985, -4.002]],
    [0.495, -0.510],
  ),
  (
    1.0,
    [[0.2, 0.1], [-0.1, 0.5]],
    [0.03, -0.04],
    [[0.9966321944, 2.0018160972], [2.9967839028, -4.0105195141]],
    [0.456, -0.488],
  ),
)


@pytest.mark.parametrize(
  "dtype, tolerance", [("float64", 1e-10), ("float32", 1e-6)]
)
def test_lars_golden(dtype, tolerance):
  with jax.enable_x64(dtype == "float64"):
    params = {
      "kernel": jnp.asarray([[1, 2], [3, -4]], dtype),
      "bias": jnp.asarray([0.5, -0.5], dtype),
    }
    rates = jnp.asarray([rate for rate, *_ in STEPS], dtype)
    transform = lars.lars(lambda step: rates[step])
    state = transform.init(params)
    for _, grad, grad_bias, kernel, bias in STEPS:
      grads = {
        "kernel": jnp.asarray(grad, dtype),
        "bias": jnp.asarray(grad_bias, dtype),
      }
      updates, state = transform.update(grads, state, params)
      params = optax.apply_updates(params, updates)
      assert params["kernel"].dtype == dtype
      np.testing.assert_allclose(params["kernel"], kernel, atol=tolerance)
      np.testing.assert_allclose(params["bias"], bias, atol=tolerance)


def test_lars_weight_decay_precedes_the_ratio():
  p, g, decay = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]]), 0.5
  transform = lars.lars(1.0, weight_decay=decay)
  updates, _ = transform.update(
    jnp.asarray(g), transform.init(jnp.asarray(p)), jnp.asarray(p)
  )
  decayed = g + decay * p
  ratio = 0.001 * np.linalg.norm(p) / np.linalg.norm(decayed)
  np.testing.assert_allclose(updates, -ratio * decayed, rtol=1e-6)


def test_lars_leaves_zero_norms_and_vectors_alone():
  params = {"head": {"kernel": jnp.zeros((2, 2)), "bias": jnp.ones((2, 2))}}
  grads = jax.tree.map(lambda p: jnp.full_like(p, 0.25), params)
  transform = lars.lars(1.0, weight_decay=0.1)
  updates, _ = transform.update(grads, transform.init(params), params)
  np.testing.assert_allclose(updates["head"]["kernel"], -0.25)
  # Called bias: neither decayed nor adapted, whatever its shape.
  np.testing.assert_allclose(updates["head"]["bias"], -0.25)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torch(nesterov):
  torch = pytest.importorskip("torch")
  start = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
  weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
  reference = torch.optim.SGD(
    [weight], lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01
  )
  transform = lars.sgd(0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
  params = jnp.asarray(start)
  state = transform.init(params)
  for factor in (1.0, -0.5, 2.0):
    reference.zero_grad()
    (factor * (weight**2).sum()).backward()
    reference.step()
    updates, state = transform.update(2 * factor * params, state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(params, weight.detach().numpy(), rtol=1e-5)


def test_schedule_golden():
  # Per epoch fraction e = step / steps_per_epoch; section 1.7 of the spec.
  fine = optimizer.warmup_cosine(
    peak=6e-4, end=0.0, warmup_steps=40 * 1251, total_steps=200 * 1251
  )
  for step, expected in (
    (0, 0.0),
    (1, 1.199041e-8),
    (20 * 1251, 3e-4),
    (40 * 1251, 6e-4),
    (120 * 1251, 3e-4),
    (199 * 1251, 5.782786e-8),
    (200 * 1251, 0.0),
    (300 * 1251, 0.0),
  ):
    value = jax.jit(fine)(jnp.asarray(step))
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-16)
  coarse = optimizer.warmup_cosine(
    peak=6e-4, end=0.0, warmup_steps=80, total_steps=400
  )
  np.testing.assert_allclose(coarse(79), 5.925e-4, rtol=1e-6)


def test_schedule_without_warmup_and_with_a_floor():
  schedule = optimizer.warmup_cosine(
    peak=1.0, end=0.2, warmup_steps=0, total_steps=10
  )
  np.testing.assert_allclose(
    [schedule(0), schedule(5), schedule(10), schedule(11)],
    [1.0, 0.6, 0.2, 0.2],
    rtol=1e-6,
  )
