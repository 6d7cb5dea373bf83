"""MoCo v2: contrastive learning against a queue of keys."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mmae_jax import information
from mmae_jax.information import checks, spectra
from mmae_jax.objectives import parts
from mmae_jax.objectives.networks import Networks, Teacher, head
from mmae_jax.objectives.two_view import embedding_std
from mmae_jax.types import Objective, Output

_PROJECTOR = {
  "widths": (2048, 128),
  "hidden_bias": True,
  "last_bias": True,
  "hidden_norm": False,
}


def moco_v2_loss(queries, keys, queue, *, temperature=0.2):
  """InfoNCE of MoCo v2.

      -mean_i log(exp(<q_i, k_i> / t)
                  / (exp(<q_i, k_i> / t) + sum_n exp(<q_i, n> / t))),

  n over the rows of the queue, q, k and n of unit length. The other keys of
  the batch are no negatives; they come to the queue after this step.

  Args:
    queries: the student's projections of one view, [batch, dim]; rows are
      normalised here.
    keys: the teacher's projections of the other view, [batch, dim]; rows are
      normalised here. No gradient goes through them.
    queue: keys of earlier steps, [length, dim]. No gradient goes through them.
      Rows are normalised here too, which does nothing to unit rows: they may
      be kept as they came, or in bfloat16.
    temperature: t, positive.
  Returns:
    Scalar in nats, at least float32; log(1 + length) where all cosines are
    equal.
  Raises:
    ValueError: queries and keys differ in shape, the queue in width, not
      floating-point matrices, or temperature is not positive.
  Source:
    He et al. 2019, https://arxiv.org/abs/1911.05722, and Chen et al. 2020,
    https://arxiv.org/abs/2003.04297, for the temperature and the head.
  """
  checks.check_positive("temperature", temperature)
  checks.check_same_shape(queries=queries, keys=keys)
  checks.check_matrix("queue", queue)
  if jnp.shape(queue)[1] != jnp.shape(queries)[1]:
    raise ValueError(
      f"queue must have the width of queries, {jnp.shape(queries)[1]}, got"
      f" shape {jnp.shape(queue)}"
    )
  q, k, n = map(information.normalise_rows, (queries, keys, queue))
  k, n = jax.lax.stop_gradient((k, n))
  positives = jnp.sum(q * k, axis=1) / temperature
  # [batch, length]
  negatives = spectra.matmul(q, n.T) / temperature
  # log(e^p + sum e^n) - p, without joining the two matrices.
  return jnp.mean(
    jax.nn.softplus(jax.nn.logsumexp(negatives, axis=1) - positives)
  )


def make(
  encoder,
  run,
  *,
  temperature=0.2,
  momentum=0.999,
  queue_size=65_536,
  projector=None,
) -> Objective:
  """MoCo v2 as an objective.

  View 1 makes the query and view 2 the key; the key encoder moves before the
  keys are made. BatchNorm with `--config.encoder.group_size` takes statistics
  over groups of rows, neighbours for the queries and shuffled for the keys,
  so that a query cannot know its key by the statistics they share.

  Args:
    encoder: a backbone.
    run: facts of the run.
    temperature: as in `moco_v2_loss`.
    momentum: of the key encoder, constant, in [0, 1].
    queue_size: keys of former batches, a multiple of the batch.
    projector: keywords of `heads.MLP` that differ from the paper's.
  Returns:
    The Objective; it needs two global views.
  Raises:
    ValueError: a value out of its range.
  """
  batch = run.batch_size
  if queue_size < batch or queue_size % batch:
    raise ValueError(
      f"queue_size must be a multiple of --config.batch_size={batch}, got"
      f" {queue_size!r}"
    )
  projector = head("projector", encoder, _PROJECTOR, projector)
  networks = Networks(
    encoder,
    run,
    projector=projector,
    teacher=Teacher(parts.constant_momentum(momentum), before=True),
  )
  dim = projector.widths[-1]
  group_size = getattr(encoder, "group_size", 0)
  # Traced once here: bad values are refused before anything is compiled.
  rows, bank = (
    jax.ShapeDtypeStruct((n, dim), jnp.float32) for n in (batch, queue_size)
  )
  jax.eval_shape(
    functools.partial(moco_v2_loss, temperature=temperature), rows, rows, bank
  )

  def init(key, views):
    network_key, queue_key = jax.random.split(key)
    params, model_state, carry = networks.init(network_key, views)
    queue = jax.random.normal(queue_key, (queue_size, dim))
    return (
      params,
      model_state,
      {
        **carry,
        "queue": information.normalise_rows(queue),
        "oldest": jnp.zeros((), jnp.int32),
      },
    )

  def shuffled(key, views):
    """A random group for every image, all groups of one size."""
    keys = parts.image_keys(key, views["seed"])
    draws = jax.vmap(jax.random.uniform)(keys)
    return jnp.argsort(jnp.argsort(draws)) // group_size

  def loss(key, params, state, views):
    carry = networks.moved(state.carry, params, state.step)
    teacher = carry["teacher"]
    query, model_state = networks.embed(
      params, state.model_state, views["global"][:, 0]
    )
    key_, statistics = networks.embed(
      teacher["params"],
      teacher["model_state"],
      views["global"][:, 1],
      target=True,
      groups=shuffled(key, views) if group_size else None,
    )
    keys = jax.lax.stop_gradient(information.normalise_rows(key_.projection))
    value = moco_v2_loss(
      query.projection, keys, carry["queue"], temperature=temperature
    )
    carry = {
      "teacher": {"params": teacher["params"], "model_state": statistics},
      "queue": jax.lax.dynamic_update_slice_in_dim(
        carry["queue"],
        keys.astype(carry["queue"].dtype),
        carry["oldest"],
        axis=0,
      ),
      "oldest": (carry["oldest"] + batch) % queue_size,
    }
    metrics = {"embedding_std": embedding_std(query.projection)}
    return value, Output(metrics, query.representation, model_state, carry)

  return Objective(
    init=init,
    loss=loss,
    after_update=networks.after_update,
    branches=networks.branches,
    # Every device scores its queries against the whole queue.
    carry_sharding={"queue": PartitionSpec()},
    needs={"global": 2},
  )
