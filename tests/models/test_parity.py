"""Equality with Hugging Face's ViTMAEForPreTraining, forward and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmae_jax.models import mae, patches, vit

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WIDTH, DECODER_WIDTH, PATCH, SIZE, RATIO = 16, 8, 4, 16, 0.6


def foreign_model():
  config = transformers.ViTMAEConfig(
    hidden_size=WIDTH,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=4 * WIDTH,
    image_size=SIZE,
    patch_size=PATCH,
    decoder_hidden_size=DECODER_WIDTH,
    decoder_num_hidden_layers=2,
    decoder_num_attention_heads=4,
    decoder_intermediate_size=4 * DECODER_WIDTH,
    layer_norm_eps=1e-6,  # the default of 1e-12 is not MAE's
    norm_pix_loss=True,
    mask_ratio=RATIO,
    # The eager form takes its softmax in float32 whatever the model's type.
    attn_implementation="sdpa",
  )
  return transformers.ViTMAEForPreTraining(config).double()


def own_model():
  return mae.MaskedAutoencoder(
    vit.ViT(WIDTH, 2, 2, patch_size=PATCH, image_size=SIZE),
    decoder_width=DECODER_WIDTH,
    decoder_depth=2,
    decoder_heads=4,
  )


def foreign_names(params):
  """Our parameters under the names and layouts of the other program."""
  out = {}

  def linear(name, p):
    out[f"{name}.weight"], out[f"{name}.bias"] = p["kernel"].T, p["bias"]

  def norm(name, p):
    out[f"{name}.weight"], out[f"{name}.bias"] = p["scale"], p["bias"]

  def block(name, p):
    norm(f"{name}.layernorm_before", p["norm1"])
    norm(f"{name}.layernorm_after", p["norm2"])
    kernels = np.split(p["attn"]["qkv"]["kernel"], 3, axis=1)
    biases = np.split(p["attn"]["qkv"]["bias"], 3)
    for part, kernel, bias in zip("qkv", kernels, biases, strict=True):
      linear(f"{name}.attention.{part}_proj", dict(kernel=kernel, bias=bias))
    linear(f"{name}.attention.o_proj", p["attn"]["proj"])
    linear(f"{name}.mlp.fc1", p["mlp"]["fc1"])
    linear(f"{name}.mlp.fc2", p["mlp"]["fc2"])

  encoder, decoder = params["encoder"], params["decoder"]
  out["vit.embeddings.cls_token"] = encoder["cls_token"]
  embed = encoder["patch_embed"]
  kernel = embed["kernel"].reshape(PATCH, PATCH, 3, WIDTH)
  name = "vit.embeddings.patch_embeddings.projection"
  out[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1)
  out[f"{name}.bias"] = embed["bias"]
  for i in range(2):
    block(f"vit.layers.{i}", encoder[f"block_{i}"])
    block(f"decoder.decoder_layers.{i}", decoder[f"block_{i}"])
  norm("vit.layernorm", encoder["norm"])
  norm("decoder.decoder_norm", decoder["norm"])
  out["decoder.mask_token"] = decoder["mask_token"]
  linear("decoder.decoder_embed", decoder["embed"])
  linear("decoder.decoder_pred", decoder["pred"])
  return out


def test_value_and_gradient():
  rng = np.random.default_rng(0)
  images = rng.normal(size=(3, SIZE, SIZE, 3))
  noise = rng.uniform(size=(3, (SIZE // PATCH) ** 2))
  model = own_model()
  shapes = jax.eval_shape(
    model.init,
    jax.random.key(0),
    jnp.zeros(images.shape),
    jnp.zeros(noise.shape),
  )
  # Every parameter is random, also those that start at zero or one.
  params = jax.tree.map(
    lambda x: rng.normal(scale=0.3, size=x.shape), shapes["params"]
  )

  # --- theirs ---
  foreign = foreign_model()
  state = foreign_names(params)
  state["vit.embeddings.position_embeddings"] = patches.position_table(
    WIDTH, SIZE // PATCH
  )[None]
  # Hugging Face 5.x leaves the decoder's positions at zero.
  state["decoder.decoder_pos_embed"] = patches.position_table(
    DECODER_WIDTH, SIZE // PATCH
  )[None]
  foreign.load_state_dict(
    {name: torch.tensor(np.array(value)) for name, value in state.items()}
  )
  out = foreign(
    torch.tensor(images.transpose(0, 3, 1, 2)), noise=torch.tensor(noise)
  )
  out.loss.backward()

  # --- ours ---
  def loss(params):
    prediction, mask, _ = model.apply(
      {"params": params}, images, noise, mask_ratio=RATIO
    )
    errors = mae.reconstruction_errors(
      prediction, images, mask, patch_size=PATCH
    )
    return errors.mean(), (prediction, mask)

  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, params)
    images, noise = jnp.asarray(images), jnp.asarray(noise)
    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (prediction, mask)), gradient = jax.device_get(grad(params))

  np.testing.assert_array_equal(mask, out.mask.numpy())
  assert abs(value - out.loss.item()) < 1e-10 * abs(value)
  np.testing.assert_allclose(
    prediction, out.logits.detach().numpy(), rtol=1e-10, atol=1e-10
  )
  # The rule of equality: a tensor's error over its own norm plus a thousandth
  # of the whole gradient's, because key biases have no gradient in theory.
  theirs = {
    name: p.grad.numpy()
    for name, p in foreign.named_parameters()
    if p.grad is not None
  }
  ours = foreign_names(gradient)
  assert set(ours) == set(theirs)
  total = np.sqrt(sum(np.square(g).sum() for g in theirs.values()))
  for name, g in theirs.items():
    error = np.linalg.norm(ours[name] - g)
    assert error < 1e-10 * (np.linalg.norm(g) + 1e-3 * total), name
