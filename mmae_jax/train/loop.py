"""The training loop: one readable path from a config to a trained encoder."""

import contextlib
import functools
import time

import jax
import threadpoolctl

from mmae_jax import checks, objectives
from mmae_jax.data import photometry as photometry_lib, pipeline, source
from mmae_jax.models import build_encoder
from mmae_jax.train import (
  begin,
  checkpoint as checkpoint_lib,
  diagnostics,
  distributed,
  optimizer as optimizer_lib,
  state as state_lib,
  step as step_lib,
  warm_start,
)
from mmae_jax.train.metrics import Metrics
from mmae_jax.train.stop import Stopped, StopSignal
from mmae_jax.train.watch import Alarmed, Watch
from mmae_jax.train.window import Window
from mmae_jax.train.workdir import Workdir
from mmae_jax.types import TrainState, UsageError


def run(config, workdir, *, stop=None) -> TrainState:
  """Trains a config in a folder, or continues what was begun there.

  Args:
    config: the resolved ConfigDict; see `mmae_jax.config.base`.
    workdir: the run's folder.
    stop: an installed StopSignal; by default no signal is heard.
  Returns:
    The final TrainState.
  Raises:
    UsageError: a mistake in the config, the data or the folder, named before
      anything is compiled; or a loss that is no longer finite.
    Stopped: a signal came; everything new was saved.
  """
  with contextlib.ExitStack() as opened:
    return _run(config, workdir, stop or StopSignal(), opened)


def _run(config, workdir, stop, opened):
  began = time.monotonic()

  # --- Config, devices, folder -----------------------------------------------
  checks.check(config)
  mesh = state_lib.make_mesh(**config.mesh)
  state_lib.check_batch(config.batch_size, config.microbatches, mesh)
  # jax calls scipy's BLAS for small triangular solves on a CPU, whose threads
  # then fight with XLA's: 10 ms instead of 0.1 for a gradient of 64 x 64.
  opened.enter_context(threadpoolctl.threadpool_limits(1, user_api="blas"))
  encoder = build_encoder(config.encoder, config.views["global"].size)
  folder = opened.enter_context(contextlib.closing(Workdir(workdir, config)))

  # --- Data ------------------------------------------------------------------
  train_source, test_source = source.open_sources(config)
  begin.copy_rejected(folder.path, train_source)
  info = begin.run_info(config, len(train_source))

  # --- Objective and optimizer -----------------------------------------------
  objective = objectives.select(config.objective, encoder, info)
  begin.check_views(config, objective)
  schedule = optimizer_lib.learning_rate(
    config.optimizer,
    info,
    epochs=config.epochs,
    first_step=objective.learns_from,
  )
  optimizer = optimizer_lib.build(
    config, objective, schedule, total_steps=info.total_steps
  )
  photometry = photometry_lib.make_photometry(config)

  # --- State: fresh, from another run's weights, or where this run stopped ----
  batch_shapes = pipeline.batch_shapes(config)
  state, shardings = state_lib.create_state(
    jax.random.key(config.seed),
    objective,
    optimizer,
    jax.eval_shape(photometry, jax.random.key(0), batch_shapes),
    mesh,
    num_classes=begin.probe_classes(config, train_source),
  )
  begin.check_evaluated(config, state.carry)
  start = begin.find_start(folder.path)
  notes = start.notes
  checkpoints = checkpoint_lib.Checkpoints(
    folder.path / "checkpoints", keep=config.checkpoint.keep
  )
  opened.callback(checkpoints.close)
  if start.step:
    state = checkpoints.restore(start.step, state, shardings)
  elif config.init_from:
    state, taken = warm_start.initialise_from(config, state, shardings)
    notes = [*notes, taken]

  # --- What is written -------------------------------------------------------
  metrics = Metrics(
    folder.path,
    total_steps=info.total_steps,
    active=jax.process_index() == 0,
    tensorboard=config.logging.tensorboard,
  )
  opened.callback(metrics.close)
  looker = diagnostics.Diagnostics(
    config, folder.path, encoder, objective, mesh, train_source, test_source
  )
  for note in notes + looker.left_out():
    metrics.say(note)
  if start.finished:
    metrics.say(f"this run is finished: {folder.path / 'report.html'}")
    return state

  # --- Compilation -----------------------------------------------------------
  train_step = step_lib.compile_step(
    functools.partial(
      step_lib.train_step,
      objective=objective,
      optimizer=optimizer,
      photometry=photometry,
      schedule=schedule,
    ),
    state,
    batch_shapes,
    mesh,
    shardings,
  )

  begin.announce(metrics, config, state, start.step, train_step, train_source)

  save_every = max(info.steps(config.checkpoint.every_epochs), 1)
  evaluate_every = max(info.steps(config.evaluation.every_epochs), 1)
  plane_every = max(info.steps(config.epochs * config.plane.every), 1)
  log_every = config.logging.log_every_steps
  window = Window(info.batch_size)
  saved = start.step  # the step that is safe on disk (or on its way there)
  watch = Watch(
    config, info, folder.path, metrics, checkpoints, step=start.step
  )

  def end(step, status):
    metrics.end(step, status=status, seconds=time.monotonic() - began)

  def save(step, state):
    """Writes a state that is finite, as every loss so far was."""
    nonlocal saved
    watch.trained(step, window.check(folder.path, saved), saved)
    if step != saved:
      window.check_state(step, state, folder.path, saved)
      checkpoints.save(state, config, step)
      saved = step

  def plane_is_due(step):
    on_time = step % plane_every == 0 or step == info.total_steps
    return config.plane.every > 0 and on_time

  def add_to_plane(step, state):
    """Measures the branches; so short that a signal may wait for its end."""
    window.check(folder.path, saved)
    values = looker.plane(step, state)
    metrics.record("plane", step, values, epoch=step / info.steps_per_epoch)
    watch.measured(step, values, saved)
    window.restart()

  def look(step, state, *, final=False):
    """Evaluates; holds no unsaved work, so a signal may end it at once."""
    checkpoints.wait()

    def farewell(signum):
      kept = f"step {saved} is saved" if saved else "nothing to save yet"
      metrics.say(f"stopped while evaluating: {kept}")
      end(step, "stopped")

    with stop.nothing_to_save(farewell):
      values = looker.evaluate(step, state, final=final)
      metrics.evaluation(step, values, epoch=step / info.steps_per_epoch)
      watch.measured(step, values, saved)
      if not final:
        looker.report(metrics, step, final=False)
    return values

  # --- Loop ------------------------------------------------------------------
  batches = pipeline.batches(
    train_source, config, mesh=mesh, start_step=start.step
  )
  opened.enter_context(contextlib.closing(batches))
  opened.enter_context(stop.deferred())
  agreement = distributed.Agreement(start.step)
  step = start.step
  try:
    # A stop may have cut off the evaluation of the step that was saved.
    unseen = step % evaluate_every == 0 and not start.evaluated
    if unseen and step < info.total_steps:
      look(step, state)
    if plane_is_due(step) and not start.measured:
      add_to_plane(step, state)
    window.restart()
    for step in range(start.step + 1, info.total_steps + 1):
      with window.waiting():
        batch = next(batches)
      with jax.transfer_guard("disallow"):
        state, values = train_step(state, batch)
      window.add(step, values)
      last = step == info.total_steps
      due = objective.refresh and step % objective.refresh_every == 0
      if due and not last:
        state = begin.refreshed(objective, state, shardings)

      log = step % log_every == 0 or last
      evaluate = step % evaluate_every == 0 and not last
      stopping = agreement.signum(stop, step, ask=log or evaluate)
      if log:
        rows = window.check(folder.path, saved)
        values = window.fetch(folder.path, saved)
        metrics.train(step, values, epoch=step / info.steps_per_epoch)
        watch.trained(step, rows, saved)
        watch.logged(step, values, saved)
      metrics.progress(step)
      if step % save_every == 0 or evaluate or last or stopping:
        save(step, state)
      if stopping:
        checkpoints.wait()
        metrics.say(f"step {step} is saved; the same command continues")
        raise Stopped(stopping)
      if plane_is_due(step):
        add_to_plane(step, state)
      if evaluate:
        look(step, state)
        window.restart()

    # --- The end: the last evaluation, with the linear probe; the report ------
    results = look(info.total_steps, state, final=True)
    end(info.total_steps, "finished")
    looker.report(metrics, info.total_steps, final=True)
    metrics.say(looker.summary(results))
  except FloatingPointError as e:  # every process sees the same numbers
    checkpoints.wait()
    end(step, "failed")
    raise begin.not_finite(e) from None
  except Alarmed:

    def tell():
      end(step, "alarm")
      looker.report(metrics, step, final=True)

    distributed.first(tell)  # no process leaves before
    raise
  except Stopped:
    end(step, "stopped")
    raise
  except BaseException as e:
    with contextlib.suppress(UsageError):  # the disk may be full
      end(step, "failed")
    distributed.fail(e)
    raise
  return state
