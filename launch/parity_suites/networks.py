"""Networks of another program and ours with the same weights, run once.

Weights go from their model to ours through `mmae_jax.interop`, and their
gradients come back the same way, so that what is converted is compared too.
"""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax import models
from mmae_jax.models import mae
from parity_suites.rows import flat


@contextlib.contextmanager
def precision(dtype: str):
  """JAX in float64 or float32; torch's models have their own type."""
  with jax.enable_x64(dtype == "float64"):
    yield


# --- masked


def kept_patches(noise: np.ndarray, ratio: float) -> np.ndarray:
  """Patches of the least noise, in the order of it, int [batch, n]."""
  count = mae.num_kept(noise.shape[1], ratio)
  return np.argsort(noise, axis=1, kind="stable")[:, :count]


def masked_autoencoder(network: Any) -> mae.MaskedAutoencoder:
  """The module of a converted masked autoencoder."""
  config = network.config
  return mae.MaskedAutoencoder(
    models.build_encoder(config.encoder, config.views["global"].size),
    config.objective.decoder_width,
    config.objective.decoder_depth,
    config.objective.decoder_heads,
  )


def masked_loss(module, params, images, noise, **kwargs):
  """(the loss of MAE, what flax captured of the modules' outputs)."""
  (prediction, mask, _), captured = module.apply(
    {"params": params}, images, noise, mutable=["intermediates"], **kwargs
  )
  errors = mae.reconstruction_errors(
    prediction, images, mask, patch_size=module.encoder.patch_size
  )
  return errors.mean(), captured.get("intermediates", {})


def run_masked(theirs, images, rng, dtype):
  import torch

  network = theirs.network()
  module = masked_autoencoder(network)
  noise = rng.uniform(size=(len(images), module.encoder.num_patches))
  noise = noise.astype(dtype)

  @jax.jit
  def run(params, images, noise):
    loss = functools.partial(masked_loss, module, capture_intermediates=True)
    return jax.value_and_grad(loss, has_aux=True)(params, images, noise)

  (loss, layers), gradient = jax.device_get(
    run(network.tree("student", "params"), images, noise)
  )
  with _captured(theirs) as outputs:
    out = theirs.model(as_pixels(images), noise=torch.from_numpy(noise))
  out.loss.backward()
  name = "encoder/patch_embed"
  kept = kept_patches(noise, 0.75)[:, :, None]
  outputs[name] = np.take_along_axis(outputs[name], kept, axis=1)
  outputs["decoder/pred"] = outputs["decoder/pred"][:, 1:]  # no class token
  return {
    "loss": loss,
    "layers": _layers(layers),
    "gradient": flat(gradient),
  }, {
    "loss": out.loss.item(),
    "layers": outputs,
    "gradient": flat(theirs.network(True).tree("student", "params")),
  }


# --- encoders


def run_encoder(theirs, images, rng, dtype, with_gradient):
  import torch

  network = theirs.network()
  encoder = models.build_encoder(network.config.encoder, theirs.size)
  # Positive: in a sum that cancels, rounding would be all there is.
  weight = rng.uniform(0, 2, (len(images), encoder.feature_dim)).astype(dtype)
  params = network.tree("student", "params")["encoder"]
  state = network.model_state("student")
  state = {name: tree["encoder"] for name, tree in state.items()}

  @jax.jit
  def run(params, images, weight):
    def loss(params):
      h, captured = encoder.apply(
        {"params": params, **state},
        images,
        train=True,
        method="represent",
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=True,
      )
      return jnp.mean(jnp.square(h) * weight), captured

    (value, captured), gradient = loss(params), {}
    if with_gradient:
      gradient, _ = jax.grad(loss, has_aux=True)(params)
    feature = None
    if state:
      feature = encoder.apply(
        {"params": params, **state}, images, method="features"
      )
    return value, captured, gradient, feature

  loss, captured, gradient, feature = jax.device_get(
    run(params, images, weight)
  )
  ours = {
    "loss": loss,
    "layers": _layers(captured["intermediates"], "encoder/"),
    "gradient": flat(gradient, "encoder/"),
    "statistics": flat(captured.get("batch_stats", {}), "encoder/"),
    "feature": feature,
  }

  pixels = as_pixels(images)
  with torch.no_grad():
    evaluated = theirs.feature(theirs.model, pixels).numpy()
  if state:
    theirs.model.train()
  with _captured(theirs) as outputs:
    h = theirs.feature(theirs.model, pixels)
  value = (h.square() * torch.from_numpy(weight)).mean()
  value.backward()
  back = theirs.network(True)
  return ours, {
    "loss": value.item(),
    "layers": outputs,
    "gradient": flat(back.tree("student", "params")),
    "statistics": flat(back.tree("student", "batch_stats")),
    "feature": evaluated,
  }


# --- both


def as_pixels(images: np.ndarray):
  """[batch, height, width, 3] as torch has images."""
  import torch

  return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@contextlib.contextmanager
def _captured(theirs):
  """{path of our module: output of theirs}, filled by a forward pass."""
  modules = dict(theirs.model.named_modules())
  outputs, hooks = dict.fromkeys(theirs.layers), []

  def keep(path):
    def hook(module, inputs, output):
      del module, inputs
      x = output[0] if isinstance(output, tuple) else output
      x = x.detach().clone().numpy()
      outputs[path] = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x

    return hook

  for path, name in theirs.layers.items():
    hooks.append(modules[name].register_forward_hook(keep(path)))
  try:
    yield outputs
  finally:
    for hook in hooks:
      hook.remove()


def _layers(captured, before=""):
  """{path of a module: its output} of what flax captured."""
  return {
    before + "/".join(str(k.key) for k in path[:-2]): np.asarray(x)
    for path, x in jax.tree_util.tree_leaves_with_path(captured)
  }
