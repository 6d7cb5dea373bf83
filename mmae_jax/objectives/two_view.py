"""What the two-view methods share: one step from two views to a loss."""

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.models.joint_embedding import Embedding
from mmae_jax.objectives import parts
from mmae_jax.objectives.networks import Networks
from mmae_jax.types import Objective, Output


def two_view(
  encoder,
  run,
  criterion,
  *,
  projector,
  predictor=None,
  teacher=None,
  joint=False,
  embeddings=False,
) -> Objective:
  """A method that compares two views of every image.

  Args:
    encoder: a backbone.
    run: facts of the run.
    criterion: (students, targets, step) -> scalar, or a tuple of it and named
      scalars. Both are pairs of [batch, dim], one a view, not normalised.
      Students are predictions where there is a predictor, else projections;
      with `embeddings` they are Embeddings.
      Targets are the teacher's projections where there is a teacher, else the
      student's. The criterion stops gradients where it wants them stopped.
    projector, predictor: of `networks.head`; the predictor may be None.
    teacher: a `networks.Teacher`, or None. Its BatchNorm works with the
      statistics of the batch and keeps running ones of its own; only
      parameters are averaged.
    joint: both views in one batch and so under common BatchNorm statistics
      (SimCLR); else one pass a view.
    embeddings: whether the criterion looks at more of the students than at
      their predictions.
  Returns:
    The Objective; it needs two global views.
  Raises:
    UsageError: as `Networks`.
    ValueError: a value that the criterion refuses.
  """
  networks = Networks(
    encoder, run, projector=projector, predictor=predictor, teacher=teacher
  )
  rows = lambda dim: jax.ShapeDtypeStruct((run.batch_size, dim), jnp.float32)
  target = rows(projector.widths[-1])
  prediction = rows((predictor or projector).widths[-1])
  representation = rows(encoder.feature_dim)

  def compare(students, targets, step):
    if not embeddings:
      students = tuple(s.prediction for s in students)
    return parts.with_terms(criterion(students, targets, step))

  # Traced once here: a criterion then refuses bad values before anything is
  # compiled.
  jax.eval_shape(
    lambda students, targets: compare(students, targets, jnp.zeros((), int)),
    (Embedding(representation, target, prediction),) * 2,
    (target,) * 2,
  )

  def loss(key, params, state, views):
    del key
    students, model_state = (networks.joint if joint else networks.per_view)(
      params, state.model_state, views
    )
    carry = state.carry
    targets = students
    if teacher is not None:
      if teacher.before:
        carry = networks.moved(carry, params, state.step)
      kept = carry["teacher"]
      targets, statistics = networks.per_view(
        kept["params"], kept["model_state"], views, target=True
      )
      carry = {
        **carry,
        "teacher": {"params": kept["params"], "model_state": statistics},
      }
    value, metrics = compare(
      students, tuple(t.projection for t in targets), state.step
    )
    std = embedding_std(students[0].prediction)
    metrics = {**metrics, "embedding_std": std}
    if teacher is not None:
      metrics["momentum"] = 1 - teacher.rate(state.step)
    return value, Output(
      metrics, students[0].representation, model_state, carry
    )

  return Objective(
    init=networks.init,
    loss=loss,
    after_update=networks.after_update,
    branches=networks.branches,
    needs={"global": 2},
  )


def embedding_std(z):
  """How far unit rows are from all being the same.

      sqrt(dim) mean_j std_i(z_ij / ||z_i||)

  Args:
    z: [batch, dim].
  Returns:
    Scalar: 0 at full collapse, about 1 for rows uniform on the sphere.
  Source:
    Chen and He 2021 (SimSiam, arXiv 2011.10566), section 4.1.
  """
  z = information.normalise_rows(jax.lax.stop_gradient(z))
  return jnp.mean(jnp.std(z, axis=0)) * z.shape[1] ** 0.5
