"""The suite `optimizers` of launch/parity.py: a hundred steps, and schedules.

transformers' ViTMAE and ours begin with the same weights and see the same
images and the same noise for 100 steps. The learning rate warms up for a
fraction of an epoch and comes down along half a cosine.
"""

import dataclasses
import functools

import jax
import numpy as np
import optax
from torch_reference import optimizers as torch_optimizers

from mmae_jax import config as config_lib
from mmae_jax.train import optimizer as optimizer_lib
from mmae_jax.types import RunInfo
from parity_suites import foreign as foreign_lib, norms, schedules
from parity_suites.networks import (
  as_pixels,
  masked_autoencoder,
  masked_loss,
  precision,
)
from parity_suites.rows import (
  OURS,
  PRECISIONS,
  compared,
  flat,
  missing,
  package,
  tree_errors,
)

SUITE = "optimizers"
_STEPS, _PER_EPOCH, _BATCH = 100, 10, 4
_SIZES = dict(width=24, depth=1, heads=3, patch=8, size=32, ratio=2)
_DECODER = dict(width=16, depth=1, heads=2)
_WARMUP = 1.5  # epochs

# About ten times what was measured (6e-16 and 9e-16, 3e-7 and 7e-7): these
# networks forget rounding. Of the losses, and of the parameters at the end.
_TOLERANCES = {"float64": (1e-14, 1e-14), "float32": (3e-6, 7e-6)}


@dataclasses.dataclass(frozen=True)
class Setting:
  """One optimizer: the keys of `config.optimizer`, and which precisions."""

  name: str
  keys: dict
  precisions: tuple[str, ...] = PRECISIONS


_LARS = dict(name="lars", base_learning_rate=0.4, weight_decay=1e-3, trust=0.01)
_SETTINGS = (
  Setting(
    "AdamW",
    dict(name="adamw", base_learning_rate=1e-3, weight_decay=0.05),
  ),
  Setting(
    "SGD, Nesterov",
    dict(
      name="sgd",
      base_learning_rate=0.02,
      weight_decay=1e-3,
      nesterov=True,
      decay="all",
    ),
  ),
  Setting("LARS", _LARS),
  Setting(
    "LARS, rate inside the momentum",
    dict(_LARS, rate_inside_momentum=True),
    ("float64",),
  ),
  Setting(
    "LARC",
    dict(_LARS, larc=True, decay="all", adapt="all"),
    ("float64",),
  ),
  Setting(
    "LARC, clipped",
    dict(_LARS, larc=True, larc_clip=True, trust=0.02),
    ("float64",),
  ),
)


def rows():
  """Trajectories, then clipping, schedules, averages and statistics."""
  transformers, said = package("transformers")
  if transformers is None:
    yield missing(SUITE, "100 steps", "transformers", said)
  else:
    for dtype in PRECISIONS:
      run = _Run(transformers, dtype)
      for setting in _SETTINGS:
        if dtype in setting.precisions:
          yield from run.rows(setting, said)
  yield from schedules.rows()
  yield from norms.rows()


class _Run:
  """Both networks of a precision, and the images of a hundred steps."""

  def __init__(self, transformers, dtype):
    self.dtype = dtype
    self.build = functools.partial(
      foreign_lib.vit_mae,
      transformers,
      dtype,
      sizes=_SIZES,
      decoder=_DECODER,
    )
    network = self.build().network()
    module = masked_autoencoder(network)
    self.params = network.tree("student", "params")
    rng = np.random.default_rng(1)
    shape = (_STEPS, _BATCH, _SIZES["size"], _SIZES["size"], 3)
    self.images = rng.normal(size=shape).astype(dtype)
    shape = (_STEPS, _BATCH, module.encoder.num_patches)
    self.noise = rng.uniform(size=shape).astype(dtype)
    loss = functools.partial(masked_loss, module)
    self.gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))

  def rows(self, setting, said):
    """The losses of a hundred steps, and the parameters after them."""
    config = config_lib.base().optimizer
    config.update(setting.keys)
    config.warmup_epochs = _WARMUP
    with precision(self.dtype):
      losses, params = self._ours(config)
    theirs, their_params, by = self._theirs(config)
    curve = np.abs(losses - theirs) / np.abs(theirs)
    tolerance, of_params = _TOLERANCES[self.dtype]
    yield compared(
      SUITE,
      f"{setting.name}: losses of 100 steps",
      f"{by} on {said}",
      self.dtype,
      {f"step {i}": e for i, e in enumerate(curve)},
      tolerance,
      curve=curve,
      note=f"the loss goes from {theirs[0]:.3f} to {theirs[-1]:.3f}",
    )
    note = ""
    if setting.keys["name"] == "adamw":
      note = (
        "without the keys' biases: their gradient is zero in theory, and Adam"
        " divides its rounding by its size"
      )
      params, their_params = map(_without_key_biases, (params, their_params))
    yield compared(
      SUITE,
      f"{setting.name}: parameters after 100 steps",
      f"{by} on {said}",
      self.dtype,
      tree_errors(params, their_params),
      of_params,
      note=note,
    )

  def _ours(self, config):
    run = RunInfo(_STEPS, _PER_EPOCH, _PER_EPOCH * 256, 256)
    schedule = optimizer_lib.learning_rate(
      config, run, epochs=_STEPS / _PER_EPOCH
    )
    optimizer = optimizer_lib.network_optimizer(
      config, schedule, constant_rate=0.0, decay=config.weight_decay
    )

    @jax.jit
    def update(gradient, state, params):
      updates, state = optimizer.update({"network": gradient}, state, params)
      return optax.apply_updates(params, updates), state

    params = {"network": jax.tree.map(jax.numpy.asarray, self.params)}
    state, losses = optimizer.init(params), []
    for images, noise in zip(self.images, self.noise, strict=True):
      (loss, _), gradient = self.gradient(params["network"], images, noise)
      params, state = update(gradient, state, params)
      losses.append(float(loss))
    return np.asarray(losses), flat(jax.device_get(params["network"]))

  def _theirs(self, config):
    import torch

    theirs = self.build()
    optimizer = torch_optimizers.build(theirs.model, config)
    losses = []
    for step in range(_STEPS):
      rate = torch_optimizers.warmup_cosine(
        step,
        peak=config.base_learning_rate,
        warmup=_WARMUP * _PER_EPOCH,
        total=_STEPS,
      )
      for group in optimizer.param_groups:
        group["lr"] = rate
      optimizer.zero_grad()
      out = theirs.model(
        as_pixels(self.images[step]), noise=torch.from_numpy(self.noise[step])
      )
      out.loss.backward()
      optimizer.step()
      losses.append(out.loss.item())
    by = OURS
    if type(optimizer).__module__.startswith("torch."):
      by = f"torch {torch.__version__} {type(optimizer).__name__}"
    return (
      np.asarray(losses),
      flat(theirs.network().tree("student", "params")),
      by,
    )


def _without_key_biases(params):
  found = {}
  for name, x in params.items():
    if name.endswith("qkv/bias"):
      query, _, value = np.split(x, 3)
      x = np.concatenate([query, value])
    found[name] = x
  return found
