"""LARS and SGD against recorded numbers, NumPy and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmae_jax.train import lars

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


# The rate of a warm-up from zero, and one that changes: only then does it
# matter on which side of the momentum it stands.
RATES = (0.0, 0.5, 1.0, 0.3)
DECAY, MOMENTUM = 0.1, 0.9
FLAVOURS = {
  "simclr": {"rate_inside_momentum": True},
  "byol": {},
  "apex": {
    "larc": True,
    "decay": lars.every_tensor,
    "adapt": lars.every_tensor,
  },
  "solo": {"larc": True, "larc_clip": True, "trust": 0.02},
}


def trajectory(flavour, start, gradients):
  """Parameters after each step, written from the definitions in NumPy."""
  p = {name: value.copy() for name, value in start.items()}
  m = {name: np.zeros_like(value) for name, value in start.items()}
  trust = 0.02 if flavour == "solo" else 0.001
  seen = []
  for rate, gradient in zip(RATES, gradients, strict=True):
    for name, g in gradient.items():
      norm_p, norm_g = np.linalg.norm(p[name]), np.linalg.norm(g)
      if flavour in ("apex", "solo"):
        excluded = flavour == "solo" and name == "bias"
        if norm_p and norm_g and not excluded:
          ratio = trust * norm_p / (norm_g + DECAY * norm_p + 1e-8)
          if flavour == "solo" and rate > ratio:
            ratio /= rate
          elif flavour == "solo":
            ratio = 1.0
          g = ratio * (g + DECAY * p[name])
      elif name != "bias":
        g = g + DECAY * p[name]
        if norm_p and np.linalg.norm(g):
          g = g * trust * norm_p / np.linalg.norm(g)
      if flavour == "simclr":
        m[name] = MOMENTUM * m[name] + rate * g
        p[name] = p[name] - m[name]
      else:
        m[name] = MOMENTUM * m[name] + g
        p[name] = p[name] - rate * m[name]
    seen.append(dict(p))
  return seen


@pytest.mark.parametrize(
  "dtype, tolerance", [("float64", 1e-11), ("float32", 1e-5)]
)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_four_flavours(flavour, dtype, tolerance):
  rng = np.random.default_rng(0)
  start = {
    "kernel": rng.normal(size=(3, 2)),
    "still": rng.normal(size=(2, 2)),  # its first two gradients are zero
    "small": 1e-4 * rng.normal(size=(2, 2)),  # under the clip
    "bias": np.zeros(2),
  }
  gradients = [
    {
      name: rng.normal(size=p.shape) * (name != "still" or i > 1)
      for name, p in start.items()
    }
    for i in range(len(RATES))
  ]
  with jax.enable_x64(dtype == "float64"):
    rates = jnp.asarray(RATES, dtype)
    transform = lars.lars(
      lambda step: rates[step],
      momentum=MOMENTUM,
      weight_decay=DECAY,
      **FLAVOURS[flavour],
    )
    cast = lambda tree: {k: jnp.asarray(v, dtype) for k, v in tree.items()}
    params = cast(start)
    state = transform.init(params)
    for gradient, expected in zip(
      gradients, trajectory(flavour, start, gradients), strict=True
    ):
      updates, state = transform.update(cast(gradient), state, params)
      params = optax.apply_updates(params, updates)
      for name, value in expected.items():
        assert params[name].dtype == dtype
        np.testing.assert_allclose(
          params[name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )


def test_a_clip_needs_larc():
  with pytest.raises(ValueError, match="larc_clip is an option of larc"):
    lars.lars(1.0, larc_clip=True)


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
