"""The train step: one batch in, one update out."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import optax

from mmae_jax.train.state import BATCH


def probe_loss(probe, features, labels):
  """Cross-entropy of the online linear probe, under stop-gradient.

  Args:
    probe: {"kernel": [dim, classes], "bias": [classes]}.
    features: [batch, dim].
    labels: int32 [batch]; -1 is unlabelled and counts for nothing.
  Returns:
    (loss in nats, accuracy), means over the labelled images.
  """
  features = jax.lax.stop_gradient(features).astype(probe["kernel"].dtype)
  logits = features @ probe["kernel"] + probe["bias"]
  labelled = labels >= 0
  count = jnp.maximum(jnp.sum(labelled), 1)
  losses = optax.losses.softmax_cross_entropy_with_integer_labels(
    logits, jnp.maximum(labels, 0)
  )
  hits = jnp.argmax(logits, axis=-1) == labels
  return (
    jnp.sum(jnp.where(labelled, losses, 0)) / count,
    jnp.sum(hits & labelled) / count,
  )


def train_step(state, batch, *, objective, optimizer, photometry, schedule):
  """One update.

  Args:
    state: the TrainState; donated by `compile_step`.
    batch: of the pipeline: uint8 "global", "label", "index", "seed".
    objective: the Objective.
    optimizer: of {"network", "probe"}.
    photometry: (key, batch) -> Views on the device; labels stop there.
    schedule: step -> learning rate, for the log.
  Returns:
    (state, metrics): device scalars, global means of this step. `loss` and
    `grad_norm` concern the network alone.
  """
  # No key is carried on, so a restart repeats the draws of a step exactly.
  keys = jax.random.split(jax.random.fold_in(state.key, state.step))
  views = photometry(keys[0], batch)

  def total(params):
    loss, output = objective.loss(keys[1], params["network"], state, views)
    metrics = {"loss": loss, **output.metrics}
    if params["probe"]:
      probe, accuracy = probe_loss(
        params["probe"], output.features, batch["label"]
      )
      metrics |= {"probe_loss": probe, "probe_accuracy": accuracy}
      loss = loss + probe
    return loss, (metrics, output)

  grads, (metrics, output) = jax.grad(total, has_aux=True)(state.params)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  network, carry = objective.after_update(
    params["network"], output.carry, state.step
  )
  metrics |= {
    "grad_norm": optax.tree.norm(grads["network"]),
    "learning_rate": schedule(state.step),
  }
  return state.replace(
    step=state.step + 1,
    params=params | {"network": network},
    model_state=output.model_state,
    opt_state=opt_state,
    carry=carry,
  ), metrics


def compile_step(step, state, batch, mesh, shardings):
  """Compiles a step ahead of time.

  Args:
    step: (state, batch) -> (state, metrics).
    state, batch: arrays or shapes.
    mesh: of the run.
    shardings: of the state.
  Returns:
    The compiled step, which donates its state.
  """
  by_rows = NamedSharding(mesh, BATCH)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, dict(batch))
  )
  return (
    jax.jit(
      step,
      donate_argnums=0,
      in_shardings=(shardings, by_rows),
      out_shardings=(shardings, NamedSharding(mesh, P())),
    )
    .lower(*shapes)
    .compile()
  )
