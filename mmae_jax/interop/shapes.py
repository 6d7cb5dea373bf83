"""Whether converted arrays are those of our modules, in shape."""

from typing import Any

import jax
import numpy as np

from mmae_jax import models
from mmae_jax.evaluate import encoder as encoder_lib
from mmae_jax.interop.network import Network
from mmae_jax.models import heads
from mmae_jax.types import UsageError


def check(network: Network, source: Any) -> None:
  """Compares encoders, decoder and heads with what our modules would make.

  Args:
    network: a converted one, with its config.
    source: for messages.
  Raises:
    UsageError: names the first array that is missing, too much, or of another
      shape.
  """
  config = network.config
  for role in ("student", "teacher"):
    params, state = network.tree(role, "params"), network.model_state(role)
    if not params:
      continue
    encoder, _ = encoder_lib.build(config, params, state, path=source)
    statistics = state.get("batch_stats", {})
    if "decoder" in params:
      _compare("decoder", _decoder(config, encoder), params["decoder"], source)
    dim = encoder.feature_dim
    for head in ("projector", "predictor"):
      if head not in params:
        continue
      module = heads.MLP(**config.objective[head])
      row = jax.ShapeDtypeStruct((2, dim), np.float32)
      made = jax.eval_shape(
        lambda key, x, m=module: m.init(key, x, train=False),
        jax.random.key(0),
        row,
      )
      _compare(head, made["params"], params[head], source)
      _compare(
        head, made.get("batch_stats", {}), statistics.get(head, {}), source
      )
      dim = module.widths[-1]
    if "prototypes" in params:
      _compare(
        "prototypes",
        {"kernel": np.zeros((config.objective.prototypes, dim))},
        params["prototypes"],
        source,
      )


def _decoder(config, encoder):
  objective, size = config.objective, config.views["global"].size
  module = models.MaskedAutoencoder(
    encoder,
    objective.decoder_width,
    objective.decoder_depth,
    objective.decoder_heads,
  )
  made = jax.eval_shape(
    module.init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, size, size, 3), np.float32),
    jax.ShapeDtypeStruct((1, encoder.num_patches), np.float32),
  )
  return made["params"]["decoder"]


def _compare(part, expected, found, source):
  if difference := encoder_lib.first_difference(expected, found):
    name, wanted, there = difference
    raise UsageError(
      f"{source}: {name} of the {part} is {there}, expected {wanted}"
    )
