"""The linear layer of the papers' probe, its step and its score."""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmae_jax.evaluate import hosts
from mmae_jax.models.norm import BatchNorm

Array = jax.Array


class LinearHead(nn.Module):
  """Logits of frozen features: [BatchNorm without affine,] linear layer.

  Attributes:
    num_classes: number of logits.
    batch_norm: normalise the features first (eps 1e-6, momentum 0.9).
    group_size: rows that share batch statistics, 0 is the whole batch.
  """

  num_classes: int
  batch_norm: bool = True
  group_size: int = 0

  @nn.compact
  def __call__(self, features: Array, *, train: bool) -> Array:
    if self.batch_norm:
      features = BatchNorm(
        epsilon=1e-6, affine=False, group_size=self.group_size
      )(features, train=train)
    # The authors' truncation at +-2 does not touch a normal of 0.01.
    return nn.Dense(
      self.num_classes,
      kernel_init=nn.initializers.normal(0.01),
      precision=jax.lax.Precision.HIGHEST,
    )(features)


def initial_state(
  seed: int, head: LinearHead, transform: Any, dim: int, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """Parameters, running statistics and optimizer state of a head.

  Args:
    seed: of the initial weights.
    head: the module.
    transform: the optimizer.
    dim: length of a feature.
    mesh: devices.
  Returns:
    {"params", "stats", "opt"}, replicated over the mesh.
  """

  def init(key):
    variables = head.init(key, jnp.zeros((1, dim)), train=True)
    params = variables["params"]
    stats = variables.get("batch_stats", {})
    return {"params": params, "stats": stats, "opt": transform.init(params)}

  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.jit(init, out_shardings=everywhere)(jax.random.key(seed))


def make_step(
  encode: Callable[[Any, Array], Array],
  head: LinearHead,
  transform: optax.GradientTransformation,
  microbatches: int,
) -> Callable[..., tuple[dict[str, Any], Array]]:
  """The jitted update of a head on a frozen encoder.

  Args:
    encode: (variables, uint8 images) -> features.
    head: the module.
    transform: the optimizer.
    microbatches: parts in which the encoder sees the batch.
  Returns:
    (state, encoder variables, batch) -> (state, mean cross-entropy in nats);
    the state is donated.
  """

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, variables, batch):
    images = batch["global"]
    rows = images.shape[0]
    # [rows] -> [parts, rows / parts]: rows stay on their device.
    parts = images.reshape(
      rows // microbatches, microbatches, *images.shape[1:]
    )
    parts = parts.swapaxes(0, 1)
    features = jax.lax.map(functools.partial(encode, variables), parts)
    features = features.swapaxes(0, 1).reshape(rows, -1)

    def loss_fn(params):
      logits, updated = head.apply(
        {"params": params, "batch_stats": state["stats"]},
        features,
        train=True,
        mutable=["batch_stats"],
      )
      losses = optax.losses.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"]
      )
      return losses.mean(), updated.get("batch_stats", {})

    (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      state["params"]
    )
    updates, opt = transform.update(grads, state["opt"], state["params"])
    params = optax.apply_updates(state["params"], updates)
    return {"params": params, "stats": stats, "opt": opt}, loss

  return step


def score(
  predict: Callable[[Any, np.ndarray], Array],
  state: dict[str, Any],
  rows: np.ndarray,
  labels: np.ndarray,
  *,
  chunk: int = 8192,
) -> dict[str, float]:
  """Top-1 and top-5 accuracy, each process for itself.

  Args:
    predict: (variables, features) -> logits.
    state: of the head.
    rows: features, [rows, dim].
    labels: int [rows].
    chunk: rows at a time.
  Returns:
    "accuracy" and "top5", in [0, 1]; a tie counts against the true class.
  """
  variables = jax.tree.map(
    hosts.to_host, {"params": state["params"], "batch_stats": state["stats"]}
  )
  ranks = []
  for start in range(0, len(rows), chunk):
    logits = np.asarray(predict(variables, rows[start : start + chunk]))
    label = labels[start : start + chunk]
    own = logits[np.arange(len(label)), label][:, None]
    ranks.append((logits >= own).sum(axis=1) - 1)
  ranks = np.concatenate(ranks)
  return {
    "accuracy": float(np.mean(ranks < 1)),
    "top5": float(np.mean(ranks < 5)),
  }
