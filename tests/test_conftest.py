"""A program from the compilation cache computes what the fresh one computes.

Tried on what is fragile: eight devices, donated buffers, a typed key.
"""

import os
import subprocess
import sys

PROGRAM = """
import hashlib, os
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

assert jax.device_count() == 8
mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
split = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
everywhere = NamedSharding(mesh, PartitionSpec())

def step(state, x):
  def loss(w):
    z = jax.nn.gelu(x @ w)
    return (z**2).mean() - jnp.linalg.slogdet(jnp.eye(8) + z.T @ z)[1] / 8
  noise = jax.random.normal(state["key"], state["w"].shape)
  w = state["w"] - 0.1 * jax.grad(loss)(state["w"]) + 1e-3 * noise
  return {"w": w, "key": state["key"]}

shardings = {"w": split, "key": everywhere}
step = jax.jit(step, donate_argnums=0, in_shardings=(shardings, rows),
               out_shardings=shardings)
random = np.random.default_rng(0)
x = jax.device_put(random.normal(size=(32, 8)).astype("float32"), rows)
w = jax.device_put(random.normal(size=(8, 8)).astype("float32"), split)
state = {"w": w, "key": jax.device_put(jax.random.key(0), everywhere)}
for _ in range(5):
  state = step(state, x)
entries = len(os.listdir(os.environ["JAX_COMPILATION_CACHE_DIR"]))
print(hashlib.sha256(np.asarray(state["w"]).tobytes()).hexdigest(), entries)
"""


def test_cached_programs_give_the_same_bits(tmp_path):
  env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
  cold, warm = (
    subprocess.run(
      [sys.executable, "-c", PROGRAM],
      env=env,
      check=True,
      capture_output=True,
      text=True,
    ).stdout.split()
    for _ in range(2)
  )
  assert int(cold[1]) > 0, "nothing was cached"
  assert warm == cold
