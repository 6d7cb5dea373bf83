"""Configs, batches and states small enough for a test."""

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmae_jax import objectives
from mmae_jax.models import build_encoder
from mmae_jax.train import (
  begin,
  optimizer as optimizer_lib,
  state as state_lib,
  step as step_lib,
)
from mmae_jax.types import RunInfo

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"


def load_module(name):
  """configs/<name>.py as a module."""
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def load_config(name, arg=None):
  """The config of configs/<name>.py as launch/train.py reads it."""
  config = load_module(name).get_config(arg)
  config.lock()
  return config


def shrink(config):
  """The same method with the smallest networks, a few steps, no extras."""
  if config.encoder.name == "resnet":
    config.encoder.depth = 10
    config.encoder.width_multiplier = 1 / 16
    config.encoder.group_size = 0
  else:
    config.encoder.width = 8
    config.encoder.depth = 1
    config.encoder.heads = 2
  for name in ("projector", "predictor"):
    if name in config.objective:
      hidden = len(config.objective[name].widths) - 1
      config.objective[name].widths = (8,) * hidden + (16,)
  if config.objective.get("queue_size"):
    config.objective.queue_size = 128
  if "prototypes" in config.objective:
    config.objective.prototypes = 8
  if "clusters" in config.objective:
    config.objective.clusters = (8, 6)
  for name in ("freeze_epochs", "queue_epochs"):
    if name in config.objective:
      config.objective[name] = 0.25
  config.batch_size = 64
  # DeepCluster learns from its second epoch on.
  config.epochs = 2 if "clusters" in config.objective else 1
  config.optimizer.warmup_epochs = 0.25
  config.evaluation.every_epochs = 1.0
  config.checkpoint.every_epochs = 0.5
  config.plane.every = 0.5
  config.logging.log_every_steps = 5
  if "decoder_width" in config.objective:
    config.objective.decoder_width = 8
    config.objective.decoder_depth = 1
    config.objective.decoder_heads = 2
  return config


# The configs of images, which launch/train.py runs; those of language models
# have no views (tests/language).
NAMES = tuple(
  path.stem
  for path in sorted(CONFIGS.glob("*.py"))
  if "views" in load_config(path.stem)
)
TWO_VIEW = tuple(
  name for name in NAMES if load_config(name).views["global"]["count"] > 1
)


def step_config(name):
  """A config for tests of the step alone, which compiles fast."""
  config = shrink(load_config(name))
  return use_vit(config) if name in TWO_VIEW else config


def use_vit(config):
  """A method of views on one block of width 8, whose step compiles fast."""
  config.encoder.update(name="vit", width=8, depth=1, heads=2, patch_size=4)
  if "local" in config.views:
    config.views.local.size = 4
  return config


def batch(config, size=None, seed=0):
  """A random batch as the pipeline makes it, in NumPy."""
  rng = np.random.default_rng(seed)
  size = size or config.batch_size
  views = {
    name: (size, view["count"], view.size, view.size, 3)
    for name, view in config.views.items()
    if view["count"]
  }
  return {
    **{
      name: rng.integers(0, 256, shape).astype(np.uint8)
      for name, shape in views.items()
    },
    "label": rng.integers(-1, 10, size).astype(np.int32),
    # Another batch of the 320 images in each of the five steps of an epoch.
    "index": (np.arange(size, dtype=np.int32) + size * seed) % 320,
    "seed": rng.integers(0, 2**32, size, dtype=np.uint32),
  }


def photometry(key, batch):
  """Pixels to [-1, 1] in the widest float there is."""
  del key
  dtype = jnp.promote_types(jnp.float32, jax.dtypes.canonicalize_dtype(float))
  pixels = {
    name: batch[name].astype(dtype) / 127.5 - 1
    for name in ("global", "local")
    if name in batch
  }
  return {**{k: batch[k] for k in ("index", "seed")}, **pixels}


def record_gradients():
  """An optax transformation whose state is the last gradient it saw."""
  return optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda grads, state, params=None: (grads, grads),
  )


class Run:
  """A compiled step of a config on some devices, and its state."""

  def __init__(
    self,
    config,
    *,
    devices=1,
    fsdp=1,
    microbatches=1,
    probe=True,
    compiled=True,
  ):
    self.mesh = state_lib.make_mesh(fsdp=fsdp, devices=jax.devices()[:devices])
    info = RunInfo(20, 5, 320, config.batch_size, microbatches)
    encoder = build_encoder(config.encoder, config.views["global"].size)
    self.objective = objectives.select(config.objective, encoder, info)
    schedule = optimizer_lib.learning_rate(
      config.optimizer, info, epochs=4, first_step=self.objective.learns_from
    )
    optimizer = optax.chain(
      record_gradients(),
      optimizer_lib.build(
        config, self.objective, schedule, total_steps=info.total_steps
      ),
    )
    views = jax.eval_shape(photometry, jax.random.key(0), batch(config))
    self.state, self.shardings = state_lib.create_state(
      jax.random.key(config.seed),
      self.objective,
      optimizer,
      views,
      self.mesh,
      num_classes=10 if probe else 0,
    )
    if jax.config.jax_enable_x64:
      self.state = jax.tree.map(
        lambda x: (
          x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x
        ),
        self.state,
      )
    self.config = config
    if not compiled:
      return
    self.step = step_lib.compile_step(
      functools.partial(
        step_lib.train_step,
        objective=self.objective,
        optimizer=optimizer,
        photometry=photometry,
        schedule=schedule,
      ),
      self.state,
      batch(config),
      self.mesh,
      self.shardings,
    )

  def train(self, steps, *, first=0):
    """Runs steps on batches `first`, ...: a list of metrics as floats."""
    rows = jax.NamedSharding(self.mesh, state_lib.BATCH)
    seen = []
    for i in range(first, first + steps):
      placed = jax.device_put(batch(self.config, seed=i), rows)
      self.state, metrics = self.step(self.state, placed)
      every = self.objective.refresh_every
      if every and (i + 1) % every == 0:
        self.state = begin.refreshed(self.objective, self.state, self.shardings)
      seen.append(jax.tree.map(float, jax.device_get(metrics)))
    return seen

  @property
  def gradient(self):
    """Gradient of the last step, of the network alone."""
    return jax.device_get(self.state.opt_state[0]["network"])


def gradient_error(got, expected):
  """The rule of equality: max over tensors of ||diff|| / (||g|| + 1e-3||all||).

  Some tensors (key biases) have no gradient in theory, so no tensor is
  compared with its own norm alone.
  """
  leaves = list(
    zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
  )
  everything = np.sqrt(sum(np.sum(np.square(e)) for _, e in leaves))
  if not everything:  # a step in which nothing is learned
    return max(np.abs(g).max() for g, _ in leaves)
  return max(
    np.linalg.norm(g - e) / (np.linalg.norm(e) + 1e-3 * everything)
    for g, e in leaves
  )
