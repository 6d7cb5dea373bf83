"""BYOL+ER: BYOL's networks, trained on the entropy-reconstruction bound."""

import jax

from mmae_jax.objectives import er, parts
from mmae_jax.objectives.byol import HEAD
from mmae_jax.objectives.networks import Teacher, head
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective


def byol_er_loss(
  p1,
  p2,
  z1,
  z2,
  t1,
  t2,
  *,
  kappa=10.0,
  estimator="plugin",
  entropy_scope=None,
  symmetric=True,
  bessel_floor=None,
):
  """Negative ER bound of a student against a teacher.

      -(H(Z1) + H(Z2)) / 2 - kappa/2 mean_i (<p1_i, t2_i> + <p2_i, t1_i>),

  rows of unit length, less constants; H as in `simclr_er_loss`. The entropy is
  the student's, the one branch with a gradient; the teacher inherits it.

  Args:
    p1, p2: the student's predictions of the two views, [batch, dim], the mean
      directions of the reconstruction; rows are normalised here.
    z1, z2: the student's projections before the predictor, [batch, dim], whose
      entropy is maximised; rows are normalised here.
    t1, t2: the teacher's projections, [batch, dim]; rows are normalised here.
      No gradient goes through them.
    kappa, estimator, entropy_scope, bessel_floor: as in `simclr_er_loss`.
    symmetric: both directions; else view 1's student against view 2's teacher.
  Returns:
    (scalar, terms), see `er.on_the_sphere`; nats, at least -log batch.
  Raises:
    ValueError: as `simclr_er_loss`.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907, sections
    4.2 and 5. Whether their BYOL+ER keeps the predictor is unknown.
  """
  t1, t2 = jax.lax.stop_gradient((t1, t2))
  triples = [(z1, p1, t2), (z2, p2, t1)]
  return er.on_the_sphere(
    triples if symmetric else triples[:1],
    kappa=kappa,
    estimator=estimator,
    entropy_scope=entropy_scope,
    bessel_floor=bessel_floor,
  )


def make(
  encoder,
  run,
  *,
  kappa=10.0,
  estimator="plugin",
  entropy_scope=None,
  symmetric=True,
  bessel_floor=None,
  momentum=0.99,
  with_predictor=True,
  projector=None,
  predictor=None,
) -> Objective:
  """BYOL+ER as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    kappa, estimator, entropy_scope, symmetric, bessel_floor: as in
      `byol_er_loss`.
    momentum: as of BYOL.
    with_predictor: BYOL's; without it the projections predict.
    projector, predictor: keywords of `heads.MLP` that differ from BYOL's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range, heads of different output widths.
  """

  def criterion(students, targets, step):
    del step
    return byol_er_loss(
      *(student.prediction for student in students),
      *(student.projection for student in students),
      *targets,
      kappa=kappa,
      estimator=estimator,
      entropy_scope=entropy_scope,
      symmetric=symmetric,
      bessel_floor=bessel_floor,
    )

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, HEAD, projector),
    predictor=head("predictor", encoder, HEAD, predictor)
    if with_predictor
    else None,
    teacher=Teacher(
      parts.cosine_momentum(momentum, run.total_steps), copied=False
    ),
    embeddings=True,
  )
