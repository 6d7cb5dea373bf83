"""SwAV: views predict each other's codes, spread evenly over prototypes."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mmae_jax import information
from mmae_jax.information import checks, spectra
from mmae_jax.models.heads import Prototypes
from mmae_jax.objectives import clustering, multi_crop, parts
from mmae_jax.objectives.networks import Networks, head
from mmae_jax.types import Objective

PROJECTOR = {
  "widths": (2048, 128),
  "hidden_bias": True,
  "last_bias": True,
}


def swav_loss(scores, codes, *, temperature=0.1):
  """Loss of SwAV: cross-entropy from each code to the other views.

      -mean over the pairs (t, s), s not t, mean_i sum_k c_itk log q_isk,
      q = softmax(scores / temperature)

  Args:
    scores: of all views, [batch, views, prototypes], those with codes first.
    codes: `clustering.sinkhorn` of the global views' scores, [batch, 2,
      prototypes]; rows sum to 1. No gradient goes through them.
    temperature: positive.
  Returns:
    Scalar in nats, at least float32; log prototypes where everything is
    uniform, which is where a run that is stuck stays.
  Raises:
    ValueError: shapes that do not belong together, temperature is not
      positive.
  Source:
    Caron et al. 2020, https://arxiv.org/abs/2006.09882.
  """
  multi_crop.check_views(scores=scores, codes=codes)
  checks.check_positive("temperature", temperature)
  log_q = jax.nn.log_softmax(spectra.widen(scores) / temperature)
  return multi_crop.across_views(jax.lax.stop_gradient(codes), log_q)


def make(
  encoder,
  run,
  *,
  temperature=0.1,
  epsilon=0.05,
  iterations=3,
  queue_size=0,
  queue_epochs=15.0,
  **hyperparameters,
) -> Objective:
  """SwAV as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    temperature: as in `swav_loss`.
    epsilon: of Sinkhorn's entropy; a loss that is stuck at log prototypes
      wants a lower one, or a longer freeze.
    iterations: of Sinkhorn.
    queue_size: embeddings of former batches that Sinkhorn sees besides, a
      multiple of the batch; 0 is no queue.
    queue_epochs: the queue fills from then on and is used once it is full.
    **hyperparameters: of `prototypical`.
  Returns:
    The Objective.
  Raises:
    ValueError: as `prototypical`, or a queue that no batch divides.
  """
  batch = run.batch_size
  if queue_size and (queue_size < batch or queue_size % batch):
    raise ValueError(
      f"queue_size must be 0 or a multiple of --config.batch_size={batch}, got"
      f" {queue_size!r}"
    )
  slots = queue_size // batch
  first = run.steps(queue_epochs)
  if slots and not 0 <= first < run.total_steps - slots:
    raise ValueError(
      "queue_epochs must be at least 0 and leave the run's --config.epochs the"
      f" {slots} steps that fill a queue of {queue_size}, got {queue_epochs!r}"
    )
  codes_of = functools.partial(
    clustering.sinkhorn, epsilon=epsilon, iterations=iterations
  )
  # Traced once here: bad values are refused before anything is compiled.
  scores = jax.ShapeDtypeStruct((batch, 2, 2), jnp.float32)
  jax.eval_shape(
    lambda x: swav_loss(x, codes_of(x), temperature=temperature), scores
  )

  def view_codes(scores, queue, vectors, step):
    """Codes of one view, [batch, prototypes]; queue [slots, batch, dim]."""
    if not slots:
      return codes_of(scores)

    def with_queue():
      former = spectra.matmul(queue, vectors.T)
      return codes_of(jnp.concatenate([former, scores[None]]))[-1]

    full = step >= first + slots
    return jax.lax.cond(full, with_queue, lambda: codes_of(scores))

  def pushed(carry, z, step):
    """The carry with the batch in the place of the oldest."""
    if not slots:
      return carry
    queue = jax.lax.dynamic_update_index_in_dim(
      carry["queue"],
      jnp.swapaxes(z, 0, 1).astype(carry["queue"].dtype),
      (step - first) % slots,
      axis=1,
    )
    return {**carry, "queue": jnp.where(step >= first, queue, carry["queue"])}

  def criterion(embedding, vectors, carry, step):
    scores, z, vectors = jax.lax.stop_gradient(
      (embedding.scores, embedding.projection, vectors)
    )
    queue = carry["queue"] if slots else [None] * multi_crop.GLOBALS
    codes = jnp.stack(
      [
        view_codes(scores[:, view], queue[view], vectors, step)
        for view in range(multi_crop.GLOBALS)
      ],
      axis=1,
    )
    unit = multi_crop.normalise(z[:, : multi_crop.GLOBALS])
    loss = swav_loss(embedding.scores, codes, temperature=temperature)
    return loss, {}, pushed(carry, unit, step)

  def init_carry(dim):
    shape = (multi_crop.GLOBALS, slots, batch, dim)
    return {"queue": jnp.zeros(shape)} if slots else {}

  return prototypical(
    encoder,
    run,
    criterion,
    temperature=temperature,
    target_temperature=epsilon,
    init_carry=init_carry,
    # Each device keeps its own rows of every batch.
    carry_sharding={"queue": PartitionSpec(None, None, ("data", "fsdp"))}
    if slots
    else {},
    **hyperparameters,
  )


def prototypical(
  encoder,
  run,
  criterion,
  *,
  init_carry=lambda dim: {},
  carry_sharding=None,
  prototypes=3000,
  temperature=0.1,
  target_temperature=0.05,
  freeze_epochs=1.0,
  drop_path=0.0,
  projector=None,
) -> Objective:
  """Crops scored against prototypes on the sphere, with a criterion on them.

  Args:
    encoder: a backbone.
    run: facts of the run.
    criterion: (Embedding of [batch, views, dim], prototypes [classes, dim],
      carry, step) -> (scalar, named scalars, carry).
    init_carry: dim of the projection -> the first carry.
    carry_sharding: as `Objective.carry_sharding`.
    prototypes: classes, at least 2; brought back to unit length after each
      step.
    temperature: of the predicted classes, for the information plane.
    target_temperature: of those that are predicted: softmax(scores / it) is a
      code before Sinkhorn evens the codes of a batch out.
    freeze_epochs: the prototypes stay as they began for so long.
    drop_path: highest rate at which branches of a ViT are left out.
    projector: keywords of `heads.MLP` that differ from the program's.
  Returns:
    The Objective; it needs two global views and takes local ones.
  Raises:
    ValueError: a value out of its range.
  """
  checks.check_positive("temperature", temperature)
  multi_crop.check_drop_path(encoder, drop_path)
  projector = head("projector", encoder, PROJECTOR, projector)
  networks = Networks(
    encoder,
    run,
    projector=projector,
    prototypes=Prototypes(prototypes, form="vector"),
  )
  frozen = parts.frozen_steps("freeze_epochs", freeze_epochs, run)

  def init(key, views):
    params, model_state, carry = networks.init(key, views)
    return params, model_state, {**carry, **init_carry(projector.widths[-1])}

  def loss(key, params, state, views):
    embedding, model_state = multi_crop.embed(
      networks,
      params,
      state.model_state,
      views,
      drop_path=(key, drop_path),
    )
    value, metrics, carry = criterion(
      embedding,
      params["prototypes"]["kernel"],
      state.carry,
      state.step,
    )
    return value, multi_crop.output(embedding, metrics, model_state, carry)

  def after_update(params, carry, step):
    del step
    vectors = params["prototypes"]["kernel"]
    unit = information.normalise_rows(vectors).astype(vectors.dtype)
    return {**params, "prototypes": {"kernel": unit}}, carry

  def categories(params, state, views):
    first, second = networks.frozen_pair(params, state, views)
    return first.scores / temperature, second.scores / target_temperature

  return Objective(
    init=init,
    loss=loss,
    after_update=after_update,
    branches=networks.branches,
    categories=categories,
    wrap_optimizer=parts.freeze("prototypes", step=frozen),
    carry_sharding=carry_sharding or {},
    needs={"global": multi_crop.GLOBALS},
    takes=("local",),
  )
