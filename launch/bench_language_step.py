"""Whole training steps of a small language model, for bench_language.py.

The model, optimizer and batch of configs/matrix_llm.py without an argument, on
random tokens; tunix's model, so it needs the extra `language`.
"""

import functools


def build():
  """The compiled steps, without and with the matrix term.

  Returns:
    ({"CE": step, "CE + MCE": step}, arguments of both, {name: number}): the
    last has what the model is made of.
  Raises:
    UsageError: the extra is not installed.
  """
  from mmae_jax.language import extra

  extra.require()
  from flax import nnx
  import jax
  import optax

  from mmae_jax import recipes
  from mmae_jax.language import families, loss, models, sharding, trainer

  config = recipes.language("matrix_llm", None)
  vocabulary = config.tokenizer.size
  mesh = sharding.make_mesh(fsdp=1, tp=1)
  sizes = families.from_config(config.model, vocabulary)
  model = models.create(jax.random.key(0), sizes, mesh)
  schedule = trainer.learning_rate(config.optimizer, 100)
  optimizer = trainer.make_optimizer(config.optimizer, schedule)
  graph, state = nnx.split(model)
  arguments = state, optimizer.init(state), _batch(config, vocabulary)

  def step(of_model, state, moments, batch):
    def total(state):
      return of_model(nnx.merge(graph, state), **batch, step=0)

    (value, _), gradient = jax.value_and_grad(total, has_aux=True)(state)
    updates, moments = optimizer.update(gradient, moments, state)
    return optax.apply_updates(state, updates), moments, value

  steps = {}
  with mesh:
    for name, weight in (("CE", 0.0), ("CE + MCE", 1.0)):
      of_model = trainer.make_loss(loss.MatrixTerm(weight=weight))
      program = jax.jit(functools.partial(step, of_model))
      steps[name] = program.lower(*arguments).compile()
  model = {name: config.model[name] for name in ("layers", "width", "hidden")}
  return (
    steps,
    arguments,
    {
      "batch": config.batch_size,
      "length": config.data.length,
      "vocabulary": vocabulary,
      **model,
    },
  )


def _batch(config, vocabulary):
  """Random tokens, the second half of each sequence a response."""
  import jax
  import jax.numpy as jnp

  shape = config.batch_size, config.data.length
  late = jnp.arange(shape[1]) >= shape[1] // 2
  return {
    "tokens": jax.random.randint(jax.random.key(1), shape, 0, vocabulary),
    "valid": jnp.ones(shape, bool),
    "response": jnp.broadcast_to(late, shape),
  }
