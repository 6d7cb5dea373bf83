"""tunix's trainer with our loss, data by step, records and restarts.

Imports tunix, so it is itself imported inside functions alone.
"""

from collections.abc import Callable
import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from tunix.sft import checkpoint_manager, hooks, peft_trainer

from mmae_jax.language import loss as loss_lib, models
from mmae_jax.language.loss import MatrixTerm
from mmae_jax.types import UsageError


def learning_rate(optimizer, total_steps: int) -> optax.Schedule:
  """Linear warm-up from 0, then half a cosine to 0, by step.

  Args:
    optimizer: `config.optimizer`: learning_rate and warmup, a share of the run
      (rounded up to whole steps, as Hugging Face's trainer does).
    total_steps: of the run.
  Returns:
    step -> learning rate.
  """
  warmup = math.ceil(optimizer.warmup * total_steps)
  return optax.schedules.join_schedules(
    [
      optax.schedules.linear_schedule(0.0, optimizer.learning_rate, warmup),
      optax.schedules.cosine_decay_schedule(
        optimizer.learning_rate, max(total_steps - warmup, 1)
      ),
    ],
    [warmup],
  )


def make_optimizer(optimizer, schedule) -> optax.GradientTransformation:
  """AdamW; the gradient is clipped where `clip_norm` is not 0.

  Args:
    optimizer: `config.optimizer`.
    schedule: of `learning_rate`.
  Returns:
    An optax transformation.
  """
  adamw = optax.adamw(
    schedule,
    b1=optimizer.b1,
    b2=optimizer.b2,
    eps=optimizer.eps,
    weight_decay=optimizer.weight_decay,
  )
  if not optimizer.clip_norm:
    return adamw
  return optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), adamw)


def make_loss(
  term: MatrixTerm, *, seed: int = 0, compute_dtype=None, microbatches: int = 1
) -> Callable:
  """The loss that tunix's trainer differentiates.

  Args:
    term: how the matrix term is taken.
    seed: of the signs of a smoothed target.
    compute_dtype: type of the forward pass; None is that of the parameters.
    microbatches: parts in which a batch is computed, one after the other. The
      mean is over the response tokens of the whole batch all the same.
  Returns:
    (model, tokens, valid, response, step) -> (loss, {"ce", "mce"}).
  """

  def loss(model, tokens, valid, response, step):
    graph, state = nnx.split(models.cast(model, compute_dtype))
    vectors = None
    if term.weight:
      vectors = models.embeddings(nnx.merge(graph, state), term.embeddings)
    key = jax.random.fold_in(jax.random.key(seed), step)

    def sums(rows):
      tokens, valid, response = rows
      logits = models.logits(nnx.merge(graph, state), tokens, valid)
      signs = loss_lib.smoothing_signs(key, logits.shape[-1], term)
      return loss_lib.response_sums(
        logits, tokens, response, vectors, term, signs=signs
      )

    rows = (tokens, valid, response)
    if microbatches == 1:
      return loss_lib.from_sums(sums(rows), term)
    parts = jax.lax.map(
      jax.checkpoint(sums), [_fold(x, microbatches) for x in rows]
    )
    totals = jax.tree.map(lambda x: jnp.sum(x, axis=0), parts)
    return loss_lib.from_sums(totals, term)

  return loss


def _fold(x: jax.Array, parts: int) -> jax.Array:
  """[rows, ...] -> [parts, rows / parts, ...]; rows stay on their device."""
  return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)


class _ByStep(hooks.DataHooks):
  """Hands the trainer the batch of its step, until the end or a signal."""

  def __init__(self, batch_at, total_steps, stop):
    self._batch_at = batch_at
    self._total_steps = total_steps
    self._stop = stop

  def load_next_train_batch(self, train_ctx):
    step = train_ctx.train_steps
    if step >= self._total_steps or self._stop():
      return None
    return self._batch_at(step) | {"step": np.asarray(step, np.int32)}

  def load_next_eval_batch(self, train_ctx):
    return None


class _FiniteOnly(checkpoint_manager.CheckpointManager):
  """Writes a state only if all of it is finite.

  So what is kept is never evicted by a state that nothing can go on from.
  """

  def save(
    self,
    step,
    model,
    optimizer,
    save_only_lora_params=False,
    force=False,
    **options,
  ):
    manager = self._checkpoint_manager
    if manager is None or not (force or manager.should_save(step)):
      return False
    trained = nnx.LoRAParam if save_only_lora_params else nnx.Param
    state = (
      nnx.state(model, trained),
      nnx.state(optimizer, nnx.optimizer.OptState),
    )
    if not _all_finite(jax.tree.leaves(state)):
      raise UsageError(
        f"step {step}: the parameters are no longer finite; try a lower"
        " --config.optimizer.learning_rate or --config.loss.weights"
      )
    return super().save(
      step, model, optimizer, save_only_lora_params, force, **options
    )


@jax.jit
def _all_finite(arrays: list[jax.Array]) -> jax.Array:
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in arrays]))


class Trainer(peft_trainer.PeftTrainer):
  """tunix's trainer; the loss's terms are recorded beside the loss.

  Where there is a checkpoint in its folder, it begins from there.
  """

  def __init__(
    self,
    model,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    *,
    checkpoints: str | None,
    every_steps: int,
    keep: int,
    record: Callable[[int, dict], None],
  ):
    """Takes a model and restores what was saved.

    Args:
      model: an nnx.Module.
      loss: of `make_loss`.
      optimizer: an optax transformation.
      checkpoints: folder of the checkpoints; None saves nothing.
      every_steps: between two checkpoints; the last step is saved always.
      keep: how many are kept.
      record: (step, {"loss", "ce", "mce", "grad_norm"}) -> None.
    Raises:
      UsageError: the checkpoints are not of this model and optimizer.
    """
    self._record = record
    options = ocp.CheckpointManagerOptions(
      save_interval_steps=every_steps, max_to_keep=keep
    )
    config = peft_trainer.TrainingConfig(
      eval_every_n_steps=1,  # asked for only where there is such data
      pbar_description=None,
    )
    super().__init__(model, optimizer, config)
    try:
      self.checkpoint_manager = _FiniteOnly(checkpoints, options)
      self._train_steps, _ = self.checkpoint_manager.maybe_restore(
        self.model, self.optimizer, restore_only_lora_params=self._lora_enabled
      )
    except (ValueError, KeyError, FileNotFoundError) as error:
      raise UsageError(
        f"{checkpoints}: the checkpoint cannot be restored"
        f" ({str(error).splitlines()[0]}); choose another --workdir"
      ) from error
    self._iter_steps = self._train_steps
    self.with_loss_fn(loss, has_aux=True)

  def fit(
    self, batch_at: Callable, total_steps: int, stop: Callable[[], bool]
  ) -> None:
    """Trains to the end, or to the step at which `stop()` says so; saves.

    Args:
      batch_at: step -> batch, of `batches.shuffled`.
      total_steps: of the run.
      stop: asked before every step.
    Raises:
      UsageError: the state that should be saved is not finite.
    """
    self.with_data_hooks(_ByStep(batch_at, total_steps, stop))
    try:
      self.train(())
    finally:
      self.checkpoint_manager.close()  # waits for what is being written

  def _post_process_train_step(self, aux):
    for name, value in aux.items():
      self._buffered_train_metrics.additional_metrics[name] = (
        [value],
        np.mean,
      )

  def _log_metrics(self, loss, step=None, additional_metrics=None):
    values = {"loss": loss, **(additional_metrics or {})}
    self._record(step, values)
