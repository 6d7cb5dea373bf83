"""Streamed second moments equal those of all rows at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax.information import entropy, moments, spectra

RNG = np.random.default_rng(0)
DIM = 6


def rows(number, offset=0.0):
  mixing = np.random.default_rng(1).normal(size=(DIM, DIM))
  return RNG.normal(size=(number, DIM)) @ mixing + offset


@jax.jit
def stream(chunks, masks):
  """Moments of [chunks, batch, dim], by one scan."""
  start = moments.empty_moments(chunks.shape[-1], dtype=chunks.dtype)

  def step(seen, chunk):
    return moments.update_moments(seen, chunk[0], mask=chunk[1]), None

  return jax.lax.scan(step, start, (chunks, masks))[0]


def check(seen, z, rtol):
  """Against float64 sums over z, relative to the largest entry."""
  z = np.asarray(z, np.float64)
  assert seen.count == len(z)
  np.testing.assert_allclose(seen.mean, z.mean(0), rtol=1e-6, atol=1e-6)
  centred = np.cov(z.T, bias=True)
  np.testing.assert_allclose(
    moments.moments_covariance(seen), centred, atol=rtol * np.abs(centred).max()
  )
  raw = z.T @ z / len(z)
  np.testing.assert_allclose(
    moments.moments_covariance(seen, centre=False),
    raw,
    atol=max(rtol, 1e-6) * np.abs(raw).max(),
  )


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e6])
def test_float32_beside_a_large_mean(offset):
  z = jnp.asarray(rows(64 * 100, offset), jnp.float32)
  masks = jnp.ones((100, 64), bool)
  check(stream(z.reshape(100, 64, DIM), masks), z, 3e-6)


def test_a_mean_that_moves_slowly_is_followed():
  """Its steps are below what float32 resolves beside 1e4."""
  drift = np.linspace(0, 0.5, 64 * 100)[:, None]
  z = jnp.asarray(0.1 * rows(64 * 100) + 1e4 + drift, jnp.float32)
  masks = jnp.ones((100, 64), bool)
  check(stream(z.reshape(100, 64, DIM), masks), z, 3e-6)


def test_float64_and_padding():
  with jax.enable_x64(True):
    z = rows(3 * 64, 1e4)
    masks = np.ones((3, 64), bool)
    masks[0], masks[2, 10:] = False, False
    padded = np.where(masks.reshape(-1, 1), z, np.nan)
    seen = stream(jnp.asarray(padded.reshape(3, 64, DIM)), masks)
    assert seen.scatter.dtype == "float64"
    check(seen, z[masks.reshape(-1)], 1e-12)


def test_merging_in_any_order_and_from_hosts():
  z = [jnp.asarray(rows(n, 1e4 + n), jnp.float32) for n in (5, 64, 1, 30)]
  empty = moments.empty_moments(DIM)
  parts = [moments.update_moments(empty, x) for x in z]
  a, b, c, d = parts
  merge = moments.merge_moments
  for merged in (
    merge(merge(a, b), merge(c, d)),
    merge(d, merge(merge(empty, c), merge(b, a))),
    # What multihost_utils.process_allgather(moments) yields.
    moments.merge_stacked_moments(
      jax.tree.map(lambda *x: np.stack(x), empty, *parts)
    ),
  ):
    check(merged, np.concatenate(z), 1e-5)
  for same in (merge(a, empty), merge(empty, a)):
    for got, expected in zip(
      jax.tree.leaves(same), jax.tree.leaves(a), strict=True
    ):
      np.testing.assert_array_equal(got, expected)


def test_entropies():
  z = jnp.asarray(rows(128), jnp.bfloat16)
  unit = spectra.normalise_rows(z)
  seen = moments.empty_moments(DIM)
  for chunk in (unit[:40], unit[40:]):
    seen = moments.update_moments(seen, chunk)
  np.testing.assert_allclose(
    np.exp(moments.moments_entropy(seen)),
    entropy.effective_rank(z),
    rtol=1e-5,
  )
  expected = entropy.matrix_entropy(spectra.covariance(unit), order=2)
  got = moments.moments_entropy(seen, order=2, centre=True)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  assert moments.moments_entropy(moments.empty_moments(DIM), order=2) == 0


def test_one_all_reduce_per_chunk():
  auto = (jax.sharding.AxisType.Auto,)
  devices = jax.make_mesh((8,), ("data",), axis_types=auto)
  split = jax.NamedSharding(devices, jax.P("data"))
  whole = jax.NamedSharding(devices, jax.P())
  z = jax.device_put(jnp.asarray(rows(64, 1e4), jnp.float32), split)
  seen = jax.device_put(moments.empty_moments(DIM), whole)
  update = jax.jit(moments.update_moments, out_shardings=whole)
  program = update.lower(seen, z).compile()
  check(program(program(seen, z), z), np.concatenate([z, z]), 3e-6)
  text = program.as_text()
  assert "all-gather" not in text and "all-to-all" not in text
  sums = [line for line in text.splitlines() if " all-reduce(" in line]
  assert sum(f"f32[{DIM},{DIM}]" in line for line in sums) == 1
  assert not any("f32[64" in line or "f32[8," in line for line in sums)


EMPTY, Z = moments.empty_moments(3), jnp.ones((2, 3))


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: moments.empty_moments(0), "dim must be .* >= 1, got 0"),
    (
      lambda: moments.empty_moments(3, dtype=jnp.bfloat16),
      "dtype must be float32 or float64",
    ),
    (
      lambda: moments.update_moments(EMPTY, jnp.ones((2, 4))),
      r"the 3 features of moments, got shape \(2, 4\)",
    ),
    (
      lambda: moments.update_moments(EMPTY, jnp.ones((2, 3), jnp.int32)),
      "floating point, got int32",
    ),
    (
      lambda: moments.update_moments(EMPTY, Z, mask=jnp.ones(2)),
      r"mask must be bool of shape \(2,\), got float32",
    ),
    (
      lambda: moments.merge_moments(EMPTY, moments.empty_moments(4)),
      "b must have",
    ),
    (
      lambda: moments.merge_stacked_moments(EMPTY),
      "one leading axis",
    ),
  ],
)
def test_refusals(call, message):
  with pytest.raises(ValueError, match=message):
    call()
