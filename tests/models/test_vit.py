"""The encoder: sizes, positions, initialisation, features, precision."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from mmae_jax import models, types
from mmae_jax.models import patches, vit

SMALL = dict(width=16, depth=3, heads=2, patch_size=4, image_size=16)


@functools.cache
def make():
  """(encoder, its compiled apply, random parameters, images)."""
  encoder = vit.ViT(**SMALL)
  images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
  shapes = jax.eval_shape(encoder.init, jax.random.key(0), images)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape), shapes)
  variables = jax.tree.map(jnp.float32, variables)
  return encoder, jax.jit(encoder.apply), variables, images


# --- the authors' numbers (specs, 1.3 and 1.4) ---


@pytest.mark.parametrize(
  "width, grid, total, entries",
  [
    (768, 14, 69594.493859, (-0.9985735, 0.0533950, 0.9442368)),
    (1024, 14, 92849.197918, (-0.9938548, 0.1106918, 0.9364147)),
    (1280, 16, 149578.405753, (-0.9893971, 0.1452353, 0.9314351)),
    (512, 14, 46340.333103, (-0.9982287, -0.0594936, 0.9581444)),
    (512, 16, 59700.678479, (-0.9982287, -0.0594936, 0.9581444)),
  ],
)
def test_position_table_golden(width, grid, total, entries):
  table = patches.position_table(width, grid)
  assert table.shape == (1 + grid**2, width) and table.dtype == np.float64
  np.testing.assert_allclose(table.sum(), total, atol=1e-6)
  np.testing.assert_array_equal(table[0], 0)
  token = table[1 + 2 * grid + 5]
  picked = token[[1, width // 4 + 1, width // 2 + 1]]
  np.testing.assert_allclose(picked, entries, atol=1e-7)
  np.testing.assert_allclose(token[-1], 1, atol=1e-7)


def test_patchify_golden():
  y, x, c = np.ogrid[:224, :224, :3]
  image = np.sin(0.05 * x + 0.03 * y + c) + 0.2 * np.cos(0.11 * x * (c + 1))
  with jax.enable_x64(True):
    cut = np.asarray(patches.patchify(jnp.asarray(image[None]), 16))[0]
  expected = [0.3661431948, -0.7574971596, -1.1842452888, 0.3354040243]
  np.testing.assert_allclose(cut[17, :4], expected, atol=1e-10)
  np.testing.assert_allclose(cut[17, 400], -0.8186338590, atol=1e-10)


# --- parameters ---


def test_initialisation_bounds():
  encoder = vit.ViT(width=192, depth=1, heads=3, patch_size=16, image_size=32)
  init = jax.jit(encoder.init)
  params = init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
  block = params["block_0"]

  def assert_uniform(x, bound):
    assert 0.99 * bound < np.abs(x).max() <= bound
    np.testing.assert_allclose(np.std(x), bound / np.sqrt(3), rtol=0.1)

  assert_uniform(params["patch_embed"]["kernel"], np.sqrt(6 / (192 + 768)))
  bias = np.abs(params["patch_embed"]["bias"])
  assert 0.9 / np.sqrt(768) < bias.max() <= 1 / np.sqrt(768)
  assert_uniform(block["attn"]["qkv"]["kernel"], np.sqrt(6 / (4 * 192)))
  assert_uniform(block["attn"]["proj"]["kernel"], np.sqrt(6 / (2 * 192)))
  assert_uniform(block["mlp"]["fc1"]["kernel"], np.sqrt(6 / (5 * 192)))
  np.testing.assert_allclose(np.std(params["cls_token"]), 0.02, rtol=0.2)
  for bias in (
    block["attn"]["qkv"],
    block["attn"]["proj"],
    *block["mlp"].values(),
  ):
    np.testing.assert_array_equal(bias["bias"], 0)
  for norm in (block["norm1"], block["norm2"], params["norm"]):
    np.testing.assert_array_equal(norm["scale"], 1)
    np.testing.assert_array_equal(norm["bias"], 0)
  assert "pos_embed" not in params  # fixed, so not a parameter


def test_vit_size():
  assert models.vit_size("b16") == dict(
    width=768, depth=12, heads=12, patch_size=16
  )
  with pytest.raises(ValueError, match="b17.*b16"):
    models.vit_size("b17")


# --- the forward pass ---


def test_forward_equals_numpy():
  """The whole encoder against a float64 formula written from the paper."""
  erf = np.vectorize(math.erf)

  def norm(x, p):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-6) * p["scale"] + p["bias"]

  def linear(x, p):
    return x @ p["kernel"] + p["bias"]

  def attend(x, p, heads):
    q, k, v = np.split(linear(x, p["qkv"]), 3, axis=-1)
    dim, out = x.shape[-1] // heads, np.empty_like(x)
    for h in range(heads):
      part = slice(h * dim, (h + 1) * dim)
      weights = np.exp(q[:, part] @ k[:, part].T / np.sqrt(dim))
      weights /= weights.sum(-1, keepdims=True)
      out[:, part] = weights @ v[:, part]
    return linear(out, p["proj"])

  def reference(image, p):
    cut = [
      image[i : i + 4, j : j + 4].reshape(-1)
      for i in range(0, 16, 4)
      for j in range(0, 16, 4)
    ]
    x = linear(np.stack(cut), p["patch_embed"])
    x = np.concatenate([p["cls_token"][0], x]) + patches.position_table(16, 4)
    for i in range(3):
      block = p[f"block_{i}"]
      x = x + attend(norm(x, block["norm1"]), block["attn"], 2)
      h = linear(norm(x, block["norm2"]), block["mlp"]["fc1"])
      x = x + linear(h * (1 + erf(h / np.sqrt(2))) / 2, block["mlp"]["fc2"])
    return norm(x, p["norm"])

  encoder, _, variables, images = make()
  with jax.enable_x64(True):
    to64 = lambda x: jnp.asarray(np.asarray(x, np.float64))
    out = jax.jit(encoder.apply)(jax.tree.map(to64, variables), to64(images))
    assert out.dtype == jnp.float64
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
  expected = [
    reference(x, params["params"]) for x in np.asarray(images, np.float64)
  ]
  np.testing.assert_allclose(out, np.stack(expected), atol=1e-12)


def test_kept_patches_keep_their_order():
  """A permutation of all patches permutes the tokens and nothing else."""
  _, apply, variables, images = make()
  kept = jnp.stack([jnp.arange(16)[::-1], jnp.roll(jnp.arange(16), 3)])
  every = apply(variables, images)
  some = apply(variables, images, kept)
  chex.assert_trees_all_close(some[:, 0], every[:, 0], atol=1e-5)
  permuted = jnp.take_along_axis(every[:, 1:], kept[:, :, None], axis=1)
  chex.assert_trees_all_close(some[:, 1:], permuted, atol=1e-5)


def test_features():
  encoder, apply, variables, images = make()
  tokens = apply(variables, images)

  def features(**settings):
    apply = functools.partial(encoder.apply, method="features", **settings)
    return jax.jit(apply)(variables, images)

  chex.assert_trees_all_close(features(), tokens[:, 0], atol=1e-6)
  chex.assert_trees_all_close(features(layer=2), features())
  mean = features(pool="mean")
  chex.assert_trees_all_close(mean, tokens[:, 1:].mean(axis=1), atol=1e-6)
  shallow = vit.ViT(**SMALL | dict(depth=2))
  chex.assert_trees_all_close(
    features(layer=-2),
    jax.jit(shallow.apply)(variables, images)[:, 0],
    atol=1e-6,
  )
  assert encoder.feature_dim == features().shape[-1]
  represent = functools.partial(encoder.apply, method="represent", train=True)
  chex.assert_trees_all_close(
    jax.jit(represent)(variables, images), features(), atol=1e-6
  )
  assert not encoder.has_batch_norm
  with pytest.raises(ValueError, match="pool.*'max'"):
    features(pool="max")
  with pytest.raises(ValueError, match="layer 3"):
    features(layer=3)


def test_normalise_is_the_final_norm():
  encoder, apply, variables, images = make()
  tokens = apply(variables, images)
  twice = encoder.apply(variables, tokens, method="normalise")
  mean = tokens.mean(-1, keepdims=True)
  expected = (tokens - mean) / jnp.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
  p = variables["params"]["norm"]
  chex.assert_trees_all_close(
    twice, expected * p["scale"] + p["bias"], atol=1e-5
  )


def test_bfloat16_is_close_and_keeps_float32_outside():
  _, apply, variables, images = make()
  low = vit.ViT(**SMALL, dtype="bfloat16")
  shapes = jax.eval_shape(low.init, jax.random.key(0), images)
  for leaf in jax.tree.leaves(shapes):
    assert leaf.dtype == jnp.float32
  exact, close = (f(variables, images) for f in (apply, jax.jit(low.apply)))
  assert close.dtype == jnp.float32
  difference = np.linalg.norm(close - exact) / np.linalg.norm(exact)
  assert 1e-5 < difference < 0.02


def test_remat_changes_nothing():
  encoder, _, variables, images = make()
  again = vit.ViT(**SMALL, remat=True)
  loss = lambda m: lambda v: jnp.square(m.apply(v, images)).sum()
  gradient = lambda m: jax.jit(jax.value_and_grad(loss(m)))(variables)
  value, gradients = gradient(encoder)
  value_again, gradients_again = gradient(again)
  chex.assert_trees_all_close(value, value_again, rtol=1e-6)
  chex.assert_trees_all_close(gradients, gradients_again, rtol=1e-4, atol=1e-4)


# --- errors ---


@pytest.mark.parametrize(
  "wrong, message",
  [
    (dict(patch_size=5), "patch_size 5"),
    (dict(heads=3), "heads 3"),
    (dict(width=18), "divisible by 4.*18"),
  ],
)
def test_sizes_that_do_not_fit(wrong, message):
  images = jnp.zeros((1, 16, 16, 3))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(vit.ViT(**SMALL | wrong).init, jax.random.key(0), images)


def test_images_of_another_shape():
  encoder, _, variables, images = make()
  for wrong, shape in (
    (images[..., 0], "2, 16, 16"),
    (images[:, :8], "2, 8, 16, 3"),
    (images[:, :6, :6], "2, 6, 6, 3"),
  ):
    message = rf"patch_size 4, got \[{shape}\]"
    with pytest.raises(ValueError, match=message):
      encoder.apply(variables, wrong)


@pytest.mark.parametrize(
  "wrong, message",
  [
    (dict(name="cnn"), "encoder.name=cnn.*vit, resnet"),
    (dict(patch_size=5), "encoder.patch_size=5"),
    (dict(heads=3), "encoder.heads=3"),
    (dict(width=18), "encoder.width=18"),
    (dict(depth=0), "encoder.depth=0"),
    (dict(dtype="float16"), "encoder.dtype=float16"),
  ],
)
def test_build_encoder(wrong, message):
  right = dict(
    name="vit", width=16, depth=3, heads=2, patch_size=4, mlp_ratio=4.0
  )
  config = ConfigDict(right | dict(dtype="float32", remat=False))
  assert models.build_encoder(config, 16) == vit.ViT(**SMALL)
  config.update(wrong)
  with pytest.raises(types.UsageError, match=message):
    models.build_encoder(config, 16)


# --- other resolutions ---


@pytest.mark.parametrize(("grid", "new"), [(4, 2), (3, 5), (14, 6), (5, 5)])
def test_positions_are_resized_as_by_torch(grid, new):
  torch = pytest.importorskip("torch")
  table = np.random.default_rng(0).standard_normal((grid**2, 7))
  pixels = torch.tensor(table.reshape(1, grid, grid, 7)).permute(0, 3, 1, 2)
  expected = torch.nn.functional.interpolate(
    pixels, size=(new, new), mode="bicubic", align_corners=False
  )
  expected = expected.permute(0, 2, 3, 1).reshape(new**2, 7).numpy()
  matrix = patches.resize_positions(grid, new)
  np.testing.assert_allclose(matrix @ table, expected, atol=1e-12)


def test_resized_positions_keep_constants():
  for grid, new in ((4, 2), (6, 9)):
    matrix = patches.resize_positions(grid, new)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("learned", [False, True])
def test_a_small_crop_has_interpolated_positions(learned):
  """As the same network with that table in the place of its own."""
  encoder = vit.ViT(**SMALL, learned_positions=learned)
  crop = jax.random.normal(jax.random.key(2), (2, 8, 8, 3))
  variables = encoder.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
  params = variables["params"]
  if learned:
    assert params["pos_embed"].shape == (1, 17, 16)
    table = np.asarray(params["pos_embed"][0], np.float64)
  else:
    assert "pos_embed" not in params
    table = patches.position_table(16, 4)
  places = patches.resize_positions(4, 2) @ table[1:]
  small = vit.ViT(**{**SMALL, "image_size": 8}, learned_positions=True)
  own = {
    **params,
    "pos_embed": jnp.asarray(np.concatenate([table[:1], places]), jnp.float32)[
      None
    ],
  }
  np.testing.assert_allclose(
    encoder.apply(variables, crop),
    small.apply({"params": own}, crop),
    rtol=1e-4,
    atol=1e-5,
  )
