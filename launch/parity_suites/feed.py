"""What our program feeds its network: initial weights, views, mask noise.

Built from the same parts and keys as the training loop and its step, so that
another program can be given the same numbers.
"""

from collections.abc import Iterator
import functools
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax import objectives
from mmae_jax.data import photometry as photometry_lib, pipeline, source
from mmae_jax.interop import exporting, recognise
from mmae_jax.interop.network import Network
from mmae_jax.models import build_encoder
from mmae_jax.objectives import parts
from mmae_jax.train import (
  begin,
  optimizer as optimizer_lib,
  state as state_lib,
  step as step_lib,
)

# What the other program's tensors are called.
FORMATS = {
  "mae": "mae",
  "umae": "mae",
  "mmae": "mae",
  "simclr": "vicreg",  # a backbone and a projector
  "matrix_ssl": "matrix_ssl",
}


class Feed:
  """A run of ours before its first step, on one device.

  Attributes:
    config: the run's.
    info: its RunInfo.
    state: its initial TrainState.
  """

  def __init__(self, config: Any):
    """Builds what `mmae_jax.train.loop.run` builds before it compiles.

    Args:
      config: of a run. Where jax has float64 all numbers of the state and the
        views become float64; the views keep their float32 values.
    """
    self.config = config
    self._mesh = state_lib.make_mesh(devices=jax.devices()[:1])
    encoder = build_encoder(config.encoder, config.views["global"].size)
    self._source, _ = source.open_sources(config)
    self.info = begin.run_info(config, len(self._source))
    objective = objectives.select(config.objective, encoder, self.info)
    schedule = optimizer_lib.learning_rate(
      config.optimizer,
      self.info,
      epochs=config.epochs,
      first_step=objective.learns_from,
    )
    optimizer = optimizer_lib.build(
      config, objective, schedule, total_steps=self.info.total_steps
    )
    self._photometry = jax.jit(photometry_lib.make_photometry(config))
    state, self._shardings = state_lib.create_state(
      jax.random.key(config.seed),
      objective,
      optimizer,
      jax.eval_shape(
        self._photometry, jax.random.key(0), pipeline.batch_shapes(config)
      ),
      self._mesh,
      num_classes=begin.probe_classes(config, self._source),
    )
    self.state = jax.tree.map(_wide, state)
    self._patches = getattr(encoder, "num_patches", 0)
    self._step = functools.partial(
      step_lib.train_step,
      objective=objective,
      optimizer=optimizer,
      photometry=lambda key, batch: batch["views"],
      schedule=schedule,
    )

  def batches(self, steps: int) -> Iterator[dict[str, Any]]:
    """What each of the first steps sees.

    Args:
      steps: how many.
    Returns:
      Iterator of {"views", "label"}, device arrays, "global" the views as the
      network gets them, NumPy, and "noise", NumPy [batch, patches], or None
      where nothing is masked.
    """
    key = self.state.key
    draw = jax.jit(self._noise)
    batches = pipeline.batches(self._source, self.config, mesh=self._mesh)
    try:
      for step in range(steps):
        batch = next(batches)
        keys = jax.random.split(jax.random.fold_in(key, step))
        views = jax.tree.map(_wide, dict(self._photometry(keys[0], batch)))
        noise = draw(keys[1], views["seed"]) if self._patches else None
        yield {
          "views": views,
          "label": batch["label"],
          "global": np.asarray(views["global"]),
          "noise": None if noise is None else np.asarray(noise),
        }
    finally:
      batches.close()

  def _noise(self, key, seeds):
    """As the masked methods draw it, one number per patch."""
    keys = parts.image_keys(key, seeds)
    return jax.vmap(lambda k: jax.random.uniform(k, (self._patches,)))(keys)

  def train(self, batches: Iterator[dict[str, Any]]) -> Iterator[tuple]:
    """Our step on batches of `batches`.

    Returns:
      Iterator of (loss, norm of the network's gradient, TrainState after it).
    """
    state, compiled = self.state, None
    for batch in batches:
      batch = {name: batch[name] for name in ("views", "label")}
      if compiled is None:
        compiled = step_lib.compile_step(
          self._step, state, batch, self._mesh, self._shardings
        )
        # The step takes its state for itself.
        state = jax.tree.map(jnp.copy, state)
      state, metrics = compiled(state, batch)
      yield float(metrics["loss"]), float(metrics["grad_norm"]), state

  def tensors(self, state: Any = None) -> dict[str, np.ndarray]:
    """The network of a state as PyTorch's tensors, by interop.

    Args:
      state: a TrainState; None is the initial one.
    Returns:
      Arrays by the names of `FORMATS`.
    """
    state = self.state if state is None else state
    arrays = _flat("student", state.params["network"], state.model_state)
    if teacher := state.carry.get("teacher"):
      arrays |= _flat("teacher", teacher["params"], teacher["model_state"])
    fmt = recognise.known(FORMATS[self.config.objective.name])
    tensors, _ = exporting.to_tensors(Network(self.config, arrays), fmt)
    return tensors


def _flat(role, params, model_state):
  trees = {"params": params, **model_state}
  flat = traverse_util.flatten_dict({role: trees}, sep="/")
  return {path: np.asarray(x) for path, x in flat.items()}


def _wide(x):
  """Floating numbers in the widest type that jax has here."""
  if jnp.issubdtype(x.dtype, jnp.floating):
    return x.astype(float)
  return x
