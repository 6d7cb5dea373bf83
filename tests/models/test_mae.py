"""The masked autoencoder: counts, masking, loss."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax.models import mae, vit


def image():
  """The image of the specification, section 1.4, float64."""
  y, x, c = np.ogrid[:224, :224, :3]
  return np.sin(0.05 * x + 0.03 * y + c) + 0.2 * np.cos(0.11 * x * (c + 1))


def build(**kwargs):
  encoder = vit.ViT(16, 2, 2, patch_size=4, image_size=16, **kwargs)
  return mae.MaskedAutoencoder(
    encoder, decoder_width=8, decoder_depth=1, decoder_heads=2
  )


@functools.cache
def make():
  """(model, its compiled apply, random parameters, images, noise)."""
  model = build()
  images = jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
  noise = jax.random.uniform(jax.random.key(2), (3, 16))
  shapes = jax.eval_shape(model.init, jax.random.key(0), images, noise)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape), shapes)
  variables = jax.tree.map(jnp.float32, variables)
  return model, jax.jit(model.apply), variables, images, noise


@pytest.mark.parametrize(
  "name, encoder, total",
  [
    ("b16", 85_647_360, 111_655_680),
    ("l16", 303_099_904, 329_239_296),
    ("h14", 630_435_840, 656_613_964),
  ],
)
def test_parameter_counts(name, encoder, total):
  model = mae.MaskedAutoencoder(vit.ViT(image_size=224, **vit.vit_size(name)))
  images = jnp.zeros((1, 224, 224, 3))
  noise = jnp.zeros((1, model.encoder.num_patches))
  params = jax.eval_shape(model.init, jax.random.key(0), images, noise)
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert count(params["params"]["encoder"]) == encoder
  assert count(params) == total


@pytest.mark.parametrize(
  "length, ratio, kept",
  [(196, 0.75, 49), (196, 0.8, 39), (196, 0.9, 19), (100, 0.8, 19),
   (100, 0.9, 9), (64, 0.9, 6)],
)  # fmt: skip
def test_num_kept_truncates(length, ratio, kept):
  assert mae.num_kept(length, ratio) == kept


@pytest.mark.parametrize("ratio", [0.0, 0.95, 1.0, -0.5, 2.0])
def test_num_kept_refuses(ratio):
  with pytest.raises(ValueError, match=f"mask_ratio {ratio}"):
    mae.num_kept(16, ratio)


def test_reconstruction_errors_golden():
  with jax.enable_x64(True):
    images = jnp.asarray(image()[None])
    mask = jnp.arange(196)[None] % 2.0
    zero = jnp.zeros((1, 196, 768))
    errors = lambda mask, normalise: mae.reconstruction_errors(
      zero, images, mask, patch_size=16, normalise_patches=normalise
    )
    for value, expected in [
      (errors(mask, True), 0.9986931089),
      (errors(mask, False), 0.5199163563),
      (errors(1 - mask, False), 0.5201533874),
    ]:
      assert value.shape == (1,) and value.dtype == jnp.float64
      np.testing.assert_allclose(value[0], expected, atol=1e-10)


def test_patch_targets_have_unbiased_unit_variance():
  targets = mae.patch_targets(jnp.asarray(image()[None]), patch_size=16)
  np.testing.assert_allclose(targets.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(targets.var(-1, ddof=1), 1, atol=1e-3)


def test_unpatchify_inverts_patchify():
  images = jax.random.normal(jax.random.key(0), (2, 12, 12, 3))
  patches = mae.patchify(images, 4)
  chex.assert_shape(patches, (2, 9, 48))
  chex.assert_trees_all_equal(mae.unpatchify(patches, 4), images)
  with pytest.raises(ValueError, match="grid"):
    mae.unpatchify(patches[:, :8], 4)


def test_masking_keeps_the_lowest_noise_in_its_order():
  model, apply, variables, images, noise = make()
  prediction, mask, latent = apply(variables, images, noise)
  chex.assert_shape(prediction, (3, 16, 48))
  chex.assert_shape(latent, (3, 5, 16))
  order = np.argsort(np.argsort(noise, axis=1), axis=1)
  np.testing.assert_array_equal(mask, order >= 4)
  kept = np.argsort(noise, axis=1)[:, :4]
  expected = jax.jit(model.encoder.apply)(
    {"params": variables["params"]["encoder"]}, images, kept
  )
  chex.assert_trees_all_close(latent, expected, atol=1e-5)


def test_removed_pixels_reach_neither_latent_nor_prediction():
  _, apply, variables, images, noise = make()
  prediction, mask, latent = apply(variables, images, noise)
  patches = mae.patchify(images, 4)
  changed = jnp.where(mask[..., None] == 1, 7.0, patches)
  out = apply(variables, mae.unpatchify(changed, 4), noise)
  chex.assert_trees_all_equal(out, (prediction, mask, latent))


def test_decoder_puts_tokens_back_in_their_places():
  """The order in which kept tokens arrive does not change the prediction."""
  decoder = mae.Decoder(8, 1, 2, patch_size=4, grid=4)
  latent = jax.random.normal(jax.random.key(1), (1, 4, 16))
  kept = jnp.array([[3, 9, 11]])
  variables = jax.jit(decoder.init)(jax.random.key(0), latent, kept)
  apply = jax.jit(decoder.apply)
  first = apply(variables, latent, kept)
  turned = apply(
    variables, latent[:, jnp.array([0, 2, 3, 1])], kept[:, [1, 2, 0]]
  )
  chex.assert_trees_all_close(first, turned, atol=1e-6)


def test_bfloat16_and_remat():
  model, apply, variables, images, noise = make()
  exact, _, _ = apply(variables, images, noise)
  low = build(dtype="bfloat16")
  close, _, latent = jax.jit(low.apply)(variables, images, noise)
  assert latent.dtype == jnp.float32
  assert np.linalg.norm(close - exact) < 0.03 * np.linalg.norm(exact)

  def gradient(model):
    def loss(variables):
      prediction, mask, _ = model.apply(variables, images, noise)
      return mae.reconstruction_errors(
        prediction, images, mask, patch_size=4
      ).mean()

    return jax.jit(jax.grad(loss))(variables)

  again = gradient(build(remat=True))
  chex.assert_trees_all_close(gradient(model), again, rtol=1e-4, atol=1e-4)


def test_errors():
  model, _, variables, images, noise = make()
  with pytest.raises(ValueError, match="noise"):
    model.apply(variables, images, noise[:, :3])
  with pytest.raises(ValueError, match="mask_ratio 0.99"):
    model.apply(variables, images, noise, mask_ratio=0.99)
  prediction, mask = jnp.zeros((3, 16, 48)), jnp.ones((3, 16))
  with pytest.raises(ValueError, match="prediction"):
    mae.reconstruction_errors(prediction[:, 1:], images, mask, patch_size=4)
