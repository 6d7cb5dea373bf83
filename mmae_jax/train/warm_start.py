"""--config.init_from: what a new run takes over from another network."""

import jax
import numpy as np

from mmae_jax.train import checkpoint
from mmae_jax.types import UsageError


def initialise_from(config, state, shardings):
  """Takes over the weights of another run, module by module.

  With a module come its running statistics, and the teacher's module of the
  same name becomes a copy of it: a teacher with other weights than those of
  its student would pull it away from what it has learned.

  Args:
    config: of this run; init_from is a run or a checkpoint of ours.
    state: a fresh state.
    shardings: of the state.
  Returns:
    (state, note): the state with the encoder, and every other top-level module
    of the same name and shapes, replaced; what to tell about it.
  Raises:
    UsageError: there is no checkpoint, or the encoder there is another one,
      also where the shapes are the same.
  """
  path = config.init_from
  try:
    there, params, statistics, _, found = checkpoint.load_network(
      path, evaluated="student"
    )
  except UsageError as e:
    raise UsageError(f"--config.init_from: {e}") from e
  network = state.params["network"]
  taken = [name for name in network if _same_shapes(network, params, name)]
  if "encoder" in network and "encoder" not in taken:
    raise UsageError(
      f"--config.init_from={path}: the encoder in {found} has other shapes than"
      " --config.encoder"
    )
  _check_the_rest(config, there, taken, found)
  network = _taken_over(network, params, taken, shardings.params["network"])

  def with_statistics(model_state, places):
    return {
      kind: _taken_over(tree, statistics.get(kind, {}), taken, places[kind])
      for kind, tree in model_state.items()
    }

  carry = state.carry
  if "teacher" in carry:
    teacher, places = carry["teacher"], shardings.carry["teacher"]
    average = _taken_over(teacher["params"], params, taken, places["params"])
    own_statistics = with_statistics(
      teacher["model_state"], places["model_state"]
    )
    carry = carry | {
      "teacher": {"params": average, "model_state": own_statistics}
    }
  note = f"weights of {', '.join(sorted(taken))} taken from {found}"
  if others := sorted(set(network) - set(taken)):
    note += f"; {', '.join(others)} begin anew"
  for key in ("mean", "std"):
    own, other = (tuple(c.views["global"][key]) for c in (config, there))
    if own != other:
      note += f"; pixels had the {key} {other} there, here {own}"
  return state.replace(
    params={**state.params, "network": network},
    model_state=with_statistics(state.model_state, shardings.model_state),
    carry=carry,
  ), note


def _check_the_rest(config, there, taken, found):
  """Refuses a module whose function differs though its shapes do not."""
  keys = {
    "vit": ["encoder.heads", "encoder.layer_norm_epsilon"],
    "resnet": ["encoder.stem"],
  }[config.encoder.name]
  if "decoder" in taken:
    keys += ["objective.decoder_heads", "objective.decoder_norm_epsilon"]
  for name in keys:
    section, key = name.split(".")
    own, other = (c[section].get(key) for c in (config, there))
    told = key in config[section] and key in there[section]
    if told and own != other:
      raise UsageError(
        f"--config.{name}={own}: the network in {found} has {other}"
      )


def _same_shapes(tree, other, name):
  shapes = lambda t: jax.tree.map(lambda x: x.shape, t)
  return name in other and shapes(tree[name]) == shapes(other[name])


def _taken_over(tree, other, names, shardings):
  """The tree with the modules of another in it."""

  def place(x, sharding):
    # A copy: on a CPU two placed arrays could share the NumPy buffer, which a
    # step cannot be given twice.
    return jax.device_put(np.array(x), sharding)

  return {
    name: jax.tree.map(place, other[name], shardings[name])
    if name in names and _same_shapes(tree, other, name)
    else module
    for name, module in tree.items()
  }
