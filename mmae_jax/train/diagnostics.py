"""What a run looks at: evaluations, spectra, reconstructions, the report."""

import time

import jax
import jax.numpy as jnp

from mmae_jax.data import photometry
from mmae_jax.evaluate import (
  features as features_lib,
  hosts,
  in_loop,
  information,
)
from mmae_jax.report import write_report

_PICTURES = 8
_REPORT_EVERY_SECONDS = 600


class Diagnostics:
  """Evaluates a state and leaves what the report draws; changes no state.

  Every process calls every method; process 0 writes.
  """

  def __init__(
    self, config, workdir, encoder, objective, mesh, train_source, test_source
  ):
    self._config = config
    self._workdir = workdir
    self._encoder = encoder
    self._objective = objective
    self._mesh = mesh
    self._train = train_source
    self._test = test_source
    self._writes = jax.process_index() == 0
    self._reported = time.monotonic()
    self._reconstruct = None
    self._plane = None

  def left_out(self) -> list[str]:
    """A line about what this run cannot measure, if there is any."""
    reason = features_lib.missing_labels(self._train)
    parts = "the probe, k-NN and linear accuracy"
    if not reason and self._test is None:
      reason = "there is no test split"
      parts = "k-NN and linear accuracy"
    return [f"{reason}: {parts} are left out"] if reason else []

  def evaluate(self, step, state, *, final) -> dict:
    """Metrics of the frozen encoder.

    Args:
      step: updates done.
      state: the TrainState.
      final: also the linear probe and the nearest neighbours.
    Returns:
      {name: number}; what needs labels or a test split is left out where
      there are none.
    """
    values = in_loop.evaluate_state(
      self._config,
      self._encoder,
      self._variables(state),
      train_source=self._train,
      test_source=self._test,
      mesh=self._mesh,
      with_linear=final,
    )
    self._keep("spectrum", step, eigenvalues=values.pop("eigenvalues"))
    neighbours = values.pop("neighbours", None)
    if final and neighbours is not None:
      self._keep("neighbours", step, **neighbours)
    if self._objective.reconstruct is not None:
      self._keep("reconstruction", step, **self._reconstructions(state))
    return values

  def plane(self, step, state) -> dict:
    """A point of the information plane.

    Args:
      step: updates done.
      state: the TrainState.
    Returns:
      {name: number} of `information.measure`, and "seconds": what it took.
    """
    began = time.monotonic()
    if self._plane is None:
      self._plane = information.Plane(
        self._config,
        self._objective,
        state,
        mesh=self._mesh,
        train_source=self._train,
        test_source=self._test,
      )
    values, arrays = self._plane(state)
    self._keep("plane", step, **arrays)
    return {**values, "seconds": time.monotonic() - began}

  def report(self, metrics, step, *, final) -> None:
    """Draws report.html: at the end, and now and then in a long run."""
    due = time.monotonic() - self._reported > _REPORT_EVERY_SECONDS
    if self._writes and (final or due):
      write_report(self._workdir, config=self._config)
      metrics.figures(step)
      self._reported = time.monotonic()

  def summary(self, values) -> str:
    """The last line of a run."""
    told = [
      f"{label} {values[name]:{form}}"
      for name, label, form in (
        ("knn_accuracy", "k-NN accuracy", ".4f"),
        ("linear_accuracy", "linear accuracy", ".4f"),
        ("effective_rank", "effective rank", ".2f"),
      )
      if name in values
    ]
    return f"{', '.join(told)}\nreport: {self._workdir / 'report.html'}"

  def _variables(self, state):
    if self._config.evaluation.network == "teacher":
      teacher = state.carry["teacher"]
      return features_lib.encoder_variables(
        teacher["params"], teacher["model_state"]
      )
    return features_lib.encoder_variables(
      state.params["network"], state.model_state
    )

  def _keep(self, name, step, **arrays):
    if self._writes:
      folder = self._workdir / "artifacts"
      folder.mkdir(parents=True, exist_ok=True)
      features_lib.save_npz(folder / f"{name}-{step}.npz", **arrays)

  def _reconstructions(self, state):
    """The first images of the test split: whole, masked, reconstructed."""
    source = self._test if self._test is not None else self._train
    batch = next(
      iter(
        features_lib.evaluation_images(
          source,
          self._config,
          mesh=self._mesh,
          limit=max(_PICTURES, self._mesh.size),
        )
      )
    )
    view = self._config.views["global"]
    levels = {"mean": view.mean, "std": view.std}
    if self._reconstruct is None:

      def reconstruct(state, images):
        return self._objective.reconstruct(
          jax.random.key(0),
          state.params["network"],
          state,
          {
            "global": photometry.normalise(images, **levels),
            "seed": jnp.arange(images.shape[0], dtype=jnp.uint32),
          },
        )

      self._reconstruct = jax.jit(reconstruct)
    images = batch["global"]
    drawn = {
      name: photometry.denormalise(hosts.to_host(x)[:_PICTURES], **levels)
      for name, x in self._reconstruct(state, images).items()
    }
    return {"image": hosts.to_host(images)[:_PICTURES, 0], **drawn}
