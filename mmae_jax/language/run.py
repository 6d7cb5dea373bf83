"""Fine-tunes a model with each loss of a config, asks it, and reports.

One cell is a seed and a weight of the matrix term; cells of one seed begin from
the same weights and see the same batches. A finished cell is skipped and a
stopped one continued, so the same command carries on after an interruption.
"""

from collections.abc import Sequence
import contextlib
import time

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax.language import (
  accuracy as accuracy_lib,
  batches,
  checks,
  datasets,
  evaluate,
  families,
  models,
  results,
  sharding,
  tokens,
  trainer as trainer_lib,
  weights,
)
from mmae_jax.language.loss import MatrixTerm
from mmae_jax.train import versions
from mmae_jax.train.metrics import Metrics
from mmae_jax.train.stop import Stopped, StopSignal
from mmae_jax.train.workdir import Workdir
from mmae_jax.types import UsageError


def run(
  config, workdir, *, seeds: Sequence[int], command: str, stop=None
) -> list[results.Result]:
  """Runs all cells of a config in a folder, or continues what was begun there.

  Args:
    config: the resolved ConfigDict; see `mmae_jax.recipes.language`.
    workdir: the run's folder.
    seeds: of weights and order, one cell each for each weight.
    command: what was typed, for the report.
    stop: an installed StopSignal; by default no signal is heard.
  Returns:
    The cells' results.
  Raises:
    UsageError: a mistake in the config, the data, the weights or the folder,
      named before anything is compiled; or a loss that is no longer finite.
    Stopped: a signal came; everything new was saved.
  """
  terms = checks.check(config)
  if jax.process_count() > 1:
    raise UsageError(
      "fine-tuning of language models runs in one process: start it on one host"
      " that has all devices"
    )
  mesh = sharding.make_mesh(**config.mesh)
  checks.check_batch(config, mesh)
  problems = datasets.read_problems(config.data)
  with contextlib.closing(Workdir(workdir, config)) as folder:
    cells = _Cells(
      config, folder.path, mesh, problems, terms[0], stop or StopSignal()
    )
    found = [cells.run(seed, term) for seed in seeds for term in terms]
    return results.write(folder.path, config, found, problems, command=command)


class _Cells:
  """What the cells of a run share: data, sizes, compiled evaluation."""

  def __init__(self, config, folder, mesh, problems, term, stop):
    self._config, self._folder = config, folder
    # Of the held-out losses, whatever a cell was trained with.
    self._held_out_term = term._replace(weight=1.0)
    self._mesh, self._stop = mesh, stop
    tokenizer = datasets.open_tokenizer(config, problems.train, folder)
    model = config.model
    if model.folder:
      self._sizes = families.from_folder(model.folder)
    else:
      self._sizes = families.from_config(model, tokenizer.size)
    tokens.check_vocabulary(
      tokenizer, self._sizes.vocabulary, padded=model.padded_vocabulary
    )
    self._data = datasets.encode(config, problems, tokenizer)
    results.write_longer(folder, self._data, config.data)
    per_epoch = batches.steps_per_epoch(
      len(self._data.train.tokens), config.batch_size
    )
    self._total = max(int(config.epochs * per_epoch + 1e-9), 1)
    self._generator = self._held_out = None

  def run(self, seed: int, term: MatrixTerm) -> results.Result:
    """One cell: trains it to the end, then asks it."""
    own = f"seed{seed}_{results.name(term.weight)}"
    folder = self._folder / "cells" / own
    if done := results.read(folder, self._config):
      print(f"{folder}: finished before", flush=True)
      return done
    folder.mkdir(parents=True, exist_ok=True)
    with Metrics(
      folder,
      total_steps=self._total,
      tensorboard=self._config.logging.tensorboard,
    ) as metrics:
      metrics.say(f"seed {seed}, {results.title(term.weight)}: {folder}")
      began = time.monotonic()
      model = self._train(folder, seed, term, metrics)
      trained = time.monotonic()

      def farewell(signum):
        metrics.say("stopped while evaluating: what was trained is saved")
        seconds = time.monotonic() - began
        metrics.end(self._total, status="stopped", seconds=seconds)

      with self._stop.nothing_to_save(farewell):
        results.set_aside(folder)
        values = self._ask(folder, model, metrics)
      seconds = (trained - began, time.monotonic() - trained)
      metrics.end(self._total, status="finished", seconds=sum(seconds))
    return results.save(
      folder, seed, term.weight, values, seconds, self._config
    )

  def _model(self, seed: int):
    config = self._config.model
    options = {"remat": config.remat, "dtype": jnp.dtype(config.dtype)}
    if config.folder:
      model = weights.load(config.folder, self._sizes, self._mesh, **options)
    else:
      model = models.create(
        jax.random.key(seed), self._sizes, self._mesh, **options
      )
    if self._config.lora.rank:
      model = weights.add_lora(
        jax.random.key(seed), model, self._config.lora, self._mesh
      )
    return model

  def _train(self, folder, seed, term, metrics):
    config = self._config
    schedule = trainer_lib.learning_rate(config.optimizer, self._total)
    window = _Window(config, schedule, metrics, self._total)
    order = batches.shuffled(
      self._data.train, seed=seed, batch_size=config.batch_size
    )
    began = time.monotonic()
    with self._mesh:
      model = self._model(seed)
      trainer = trainer_lib.Trainer(
        model,
        trainer_lib.make_loss(
          term,
          seed=seed,
          compute_dtype=jnp.dtype(config.model.compute_dtype),
          microbatches=config.microbatches,
        ),
        trainer_lib.make_optimizer(config.optimizer, schedule),
        checkpoints=str((folder / "checkpoints").resolve()),
        every_steps=config.checkpoint.every_steps,
        keep=config.checkpoint.keep,
        record=window.add,
      )
      with self._stop.deferred():
        metrics.start(
          trainer.train_steps,
          parameters=sum(x.size for x in jax.tree.leaves(nnx.state(model))),
          devices=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
          commit=versions.commit(),
          versions=versions.libraries() | versions.of("google-tunix"),
        )
        self._fit(trainer, order, window, metrics, began)
    return model

  def _fit(self, trainer, order, window, metrics, began):
    """Trains to the end; otherwise writes down how far it came, and why."""

    def end(status):
      window.write()
      seconds = time.monotonic() - began
      metrics.end(trainer.train_steps, status=status, seconds=seconds)

    try:
      trainer.fit(order, self._total, lambda: self._stop.requested)
    except BaseException:
      with contextlib.suppress(UsageError):  # the disk may be full
        end("failed")
      raise
    if trainer.train_steps < self._total or self._stop.requested:
      end("stopped")
      raise Stopped(self._stop.signum)

  def _ask(self, folder, model, metrics) -> dict:
    """Exact-match accuracy and, of generated problems, held-out losses."""
    settings, data = self._config.evaluation, self._data
    if not settings.enabled:
      return {}
    dtype = jnp.dtype(self._config.model.compute_dtype)
    model = models.for_sampling(model, dtype)
    values = {}
    with self._mesh:
      if data.held_out is not None:
        if self._held_out is None:
          self._held_out = evaluate.HeldOut(
            data.held_out,
            self._held_out_term,
            batch_size=self._config.batch_size,
          )
        values |= self._held_out(model)
      if data.problems.test:
        values |= self._answers(folder, model)
    shown = {k: v for k, v in values.items() if isinstance(v, float)}
    metrics.evaluation(self._total, shown)
    return values

  def _answers(self, folder, model) -> dict:
    settings, problems = self._config.evaluation, self._data.problems
    if self._generator is None:
      self._generator = evaluate.Generator(
        self._data.tokenizer,
        self._data.template,
        [p.query for p in problems.test],
        batch_size=settings.batch_size,
        new_tokens=settings.new_tokens,
      )
    accuracy, right = accuracy_lib.grade(
      self._generator(model),
      problems.test,
      problems.correct,
      folder / "generations.jsonl",
    )
    return {
      "accuracy": accuracy.share,
      "interval": [accuracy.low, accuracy.high],
      "right": accuracy.right,
      "asked": accuracy.asked,
      "each": right,
    }


class _Window:
  """Writes the means of the steps between two lines of the log."""

  def __init__(self, config, schedule, metrics, total_steps):
    self._every = config.logging.log_every_steps
    self._tokens = config.batch_size * config.data.length
    self._schedule, self._metrics = schedule, metrics
    self._total = total_steps
    self._step, self._kept, self._since = 0, [], time.monotonic()

  def add(self, step: int, values: dict) -> None:
    """Takes one step's values, which are means over its batch already."""
    values = {name: float(value) for name, value in values.items()}
    for key, read in (("loss", "loss"), ("grad_norm", "gradient's norm")):
      if not np.isfinite(values[key]):
        raise UsageError(
          f"step {step}: the {read} is {values[key]}; try a lower"
          " --config.optimizer.learning_rate or --config.loss.weights"
        )
    self._kept.append(values)
    self._step = step
    if step % self._every == 0 or step == self._total:
      self.write()

  def write(self) -> None:
    """Writes the means of the steps since the last line, if there are any."""
    if not self._kept:
      return
    now = time.monotonic()
    rate = len(self._kept) * self._tokens / (now - self._since)
    means = {
      name: float(np.mean([v[name] for v in self._kept]))
      for name in self._kept[0]
    }
    means["learning_rate"] = float(self._schedule(self._step - 1))
    self._metrics.train(self._step, means | {"tokens_per_second": rate})
    self._kept, self._since = [], now
