"""1, 8 and 2 x 4 devices agree, and move no more than they must.

Feature-side quantities of a batch that is split over devices are partial
products and all-reduces; sample-side ones gather [batch, dim] once.
"""

import math
import re

import jax
import numpy as np
import pytest

from mmae_jax import information
from mmae_jax.information import bounds

MESHES = {"8": (8, 1), "2 x 4": (2, 4)}
TALL, WIDE = (32, 4), (16, 24)  # more samples than features, and fewer


def correlated(function):
  return lambda z1, z2: function(
    information.correlation(z1), information.correlation(z2), order=2
  )


def sampled(function):
  return lambda z1, z2: function(
    information.cosine_gram(z1), information.cosine_gram(z2), order=2
  )


ON_FEATURES = {
  "coding_rate": lambda z1, z2: information.coding_rate(z1, centre=True),
  "total_coding_rate": lambda z1, z2: information.total_coding_rate(
    z1, epsilon_squared=0.5
  ),
  "mean_squared_cosine": lambda z1, z2: information.mean_squared_cosine(z1),
  "entropy": lambda z1, z2: information.matrix_entropy(
    information.covariance(z1), order=2
  ),
  "joint_entropy": correlated(information.joint_entropy),
  "mutual_information": correlated(information.mutual_information),
  "matrix_ssl": lambda z1, z2: sum(information.matrix_ssl_terms(z1, z2)),
  "barlow": bounds.barlow_loss,
  "spectral": bounds.spectral_loss,
  "unnormalised_entropy": lambda z1, z2: information.unnormalised_entropy(
    information.covariance(z1)
  ),
  "maximum_entropy_coding": lambda z1, z2: information.maximum_entropy_coding(
    z1, z2, epsilon_squared=8.0
  ),
}
# The rows of batch x batch matrices stay where they are.
ON_SAMPLES = {
  "joint_entropy": sampled(information.joint_entropy),
  "mutual_information": sampled(information.mutual_information),
  "info_nce": lambda z1, z2: bounds.info_nce_cap(z1, z2).left,
}
CASES = {
  **{f"{name}, features": (f, TALL) for name, f in ON_FEATURES.items()},
  **{f"{name}, samples": (f, TALL) for name, f in ON_SAMPLES.items()},
  **{
    f"{name}, dual": (ON_FEATURES[name], WIDE)
    for name in ("coding_rate", "matrix_ssl")
  },
}


def on_devices(function, shape, layout):
  """The compiled program with its gradients, and its inputs."""
  mesh = jax.make_mesh(
    layout,
    ("data", "fsdp"),
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
    devices=jax.devices()[: math.prod(layout)],
  )
  split = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
  z = np.random.default_rng(0).normal(size=(2, *shape)) + 0.1
  z[1] += z[0]
  z = [jax.device_put(x, split) for x in z]
  program = jax.jit(
    jax.value_and_grad(function, argnums=(0, 1)),
    out_shardings=(jax.NamedSharding(mesh, jax.P()), (split, split)),
  )
  return program.lower(*z).compile(), z


def moved(text, operation):
  """Number of entries of every array that a collective operation yields."""
  sizes = []
  for result in re.findall(rf"= (.*?) {operation}(?:-start)?\(", text):
    for shape in re.findall(r"f64\[([\d,]*)\]", result):
      sizes.append(math.prod(map(int, shape.split(","))) if shape else 1)
  return sizes


@pytest.mark.parametrize("name", CASES)
def test_devices_agree(name):
  function, (batch, dim) = CASES[name]
  with jax.enable_x64(True):
    program, z = on_devices(function, (batch, dim), (1, 1))
    value, gradients = program(*z)
    for layout in MESHES.values():
      program, z = on_devices(function, (batch, dim), layout)
      got, got_gradients = program(*z)
      np.testing.assert_allclose(got, value, rtol=1e-10, atol=1e-12)
      for g, expected in zip(got_gradients, gradients, strict=True):
        np.testing.assert_allclose(
          g, expected, atol=1e-10 * max(np.abs(expected).max(), 1e-3)
        )
      text = program.as_text()
      others = ("all-gather", "all-to-all", "collective-permute")
      gathered = [size for kind in others for size in moved(text, kind)]
      if "features" in name:
        assert not gathered
        assert max(moved(text, "all-reduce")) <= dim**2
      else:
        assert max(gathered) <= batch * dim
