"""The count of operations against XLA's own."""

import jax
import jax.numpy as jnp

from mmae_jax.models import flops, mae, vit


def test_three_times_the_forward_pass():
  encoder = vit.ViT(128, 3, 2, patch_size=8, image_size=64)
  model = mae.MaskedAutoencoder(encoder, 64, 2, 2)
  images, noise = jnp.zeros((2, 64, 64, 3)), jnp.zeros((2, 64))
  variables = jax.eval_shape(model.init, jax.random.key(0), images, noise)
  lowered = jax.jit(model.apply).lower(variables, images, noise)
  counted = lowered.cost_analysis()["flops"]
  expected = 2 * flops.training_flops(model, mask_ratio=0.75) / 3
  # XLA also counts what is not a product: LayerNorm, softmax, GELU.
  assert expected < counted < 1.15 * expected
