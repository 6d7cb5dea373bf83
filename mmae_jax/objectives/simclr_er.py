"""SimCLR+ER: SimCLR's networks, trained on the entropy-reconstruction bound."""

from mmae_jax.objectives import er
from mmae_jax.objectives.networks import head
from mmae_jax.objectives.simclr import PROJECTOR
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective


def simclr_er_loss(
  z1,
  z2,
  *,
  kappa=10.0,
  estimator="plugin",
  entropy_scope=None,
  symmetric=True,
  bessel_floor=None,
):
  """Negative ER bound of two projections.

      -(H(Z1) + H(Z2)) / 2 - kappa mean_i <z1_i, z2_i>,   rows of unit length,

  less constants; H by a von Mises-Fisher kernel of the same kappa, see
  `information.er_loss`. The kernel of one view holds that view alone, itself
  included: none of SimCLR's negatives across the views.

  Args:
    z1, z2: projections of the two views, [batch, dim]; rows are normalised
      here. The gradient goes through both.
    kappa: concentration, the inverse of SimCLR's temperature; positive.
    estimator: "plugin", the default of the authors' program, or "joe"; which
      of them the published runs had is unknown.
    entropy_scope: None for the global batch, or groups of so many rows; the
      published curves fit 256 at every batch, as we read them.
    symmetric: the mean of both entropies, our choice; else H(Z2) alone. Which
      the paper has is unknown.
    bessel_floor: of the constant of the logged terms; 1e-7 gives those of the
      authors' program.
  Returns:
    (scalar, terms), see `er.on_the_sphere`; nats, at least -log batch.
  Raises:
    ValueError: shapes differ, not floating-point matrices, kappa is not
      positive, an unknown estimator, a scope that does not divide the batch.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907, section 5.
  """
  triples = [(z, z1, z2) for z in ((z1, z2) if symmetric else (z2,))]
  return er.on_the_sphere(
    triples,
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
  joint=True,
  projector=None,
) -> Objective:
  """SimCLR+ER as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    kappa, estimator, entropy_scope, symmetric, bessel_floor: as in
      `simclr_er_loss`.
    joint: as of SimCLR.
    projector: keywords of `heads.MLP` that differ from SimCLR's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """

  def criterion(students, targets, step):
    del targets, step
    return simclr_er_loss(
      *students,
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
    projector=head("projector", encoder, PROJECTOR, projector),
    joint=joint,
  )
