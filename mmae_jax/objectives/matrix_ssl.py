"""Matrix-SSL: uniformity and alignment as matrix cross-entropies."""

import jax

from mmae_jax import information
from mmae_jax.information import checks
from mmae_jax.objectives import parts
from mmae_jax.objectives.networks import (
  SIAMESE_PREDICTOR,
  SIAMESE_PROJECTOR,
  Teacher,
  head,
)
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective

FORMS = ("program", "paper")


def matrix_ssl_loss(
  p1,
  p2,
  z1,
  z2,
  *,
  uniformity=1.0,
  ridge=1.0,
  gamma=1.0,
  order=4,
  form="program",
  symmetrise=False,
):
  """Loss of Matrix-SSL.

      1/2 sum over (p, z) = (p2, z1), (p1, z2) of uniformity U + gamma A

  with T the Taylor polynomial of the logarithm about I, `order` terms,
  Q_ab = C(a, b) + ridge I and C(a, b) = A^T J B / batch, J = I - 11^T / batch
  (rows are normalised, then centred, and not normalised again):

      program:  U = -tr(I T(Q_pz)),   A = -tr(Q_pp T(Q_zz))
      paper:    U = -tr((1/dim + ridge) T(Q_pz)) + tr Q_pz,
                A = -tr(Q_pp T(Q_zz)) + tr Q_zz

  The paper's equations 18 to 20 are U = MCE(I/dim, C(p, z)) and
  A = MCE(C(p, p), C(z, z)), MCE(P, Q) = -tr(P log Q) + tr Q, whose logarithm
  needs a ridge; here it is on P and Q of both, which leaves the minimum of each
  where it was, at Q = P. The authors' program differs:

  - it has I where the paper has I / dim, so that its uniformity is dim times
    heavier beside the same gamma; and a ridge on P in the alignment alone;
  - it leaves out + tr Q. At ridge 1 and to first order, its U is minus the mean
    centred cosine of student and teacher and its A pulls the mean of z to
    zero; + tr Q leaves 1 / dim of the one and nothing of the other. So the
    program's loss is mostly SimSiam's, while the paper's hardly pulls the views
    of an image together. At a smaller ridge it pushes them apart, as four
    terms are too few there: by 1/16 of the cosine at ridge 1/2 and large dim;
  - it halves the sum over both pairings of views. The paper states one, with
    a stopped target: both forms here take both, since views may be augmented
    differently and each is then a student.

  Both are computed by traces of products on the smaller of the sides
  [batch, batch] and [dim, dim]: no logarithm is formed.

  Args:
    p1, p2: the teacher's projections of the two views, [batch, dim]; rows are
      normalised here. No gradient goes through them.
    z1, z2: the student's predictions of the two views, [batch, dim]; rows are
      normalised here. View 1's student meets view 2's teacher.
    uniformity: weight of U, not negative; the program's lambda.
    ridge: called mu, positive; in (0, 1] the series converges for all rows.
    gamma: weight of A, not negative.
    order: terms of the Taylor polynomial.
    form: "program" or "paper".
    symmetrise: replaces C(p, z) by its symmetric part. It is not symmetric,
      and neither program nor paper makes it so.
  Returns:
    (loss, parts): the scalar without a unit, at least float32, and the means
    over both pairings of U and A, `uniformity` and `alignment`, unweighted.
    Ridges other than 1, and the paper's + tr Q, add constants that grow with
    dim: compare values at equal form, ridge and dim alone.
  Raises:
    ValueError: shapes differ, not floating-point matrices, fewer than two
      rows, ridge is not positive, a weight is negative, order < 1, or form is
      unknown.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326, and the authors'
    program with its options lambda, mu, gamma and order; the setting of its
    README is 1, 1, 1 and 4, the defaults in its code are 0.5, 0.5, 1 and 4.
  """
  if form not in FORMS:
    raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
  checks.check_not_negative("uniformity", uniformity)
  checks.check_not_negative("gamma", gamma)
  checks.check_positive("ridge", ridge)
  checks.check_same_shape(p1=p1, p2=p2, z1=z1, z2=z2)
  checks.check_rows("p1", p1)
  p1, p2 = jax.lax.stop_gradient((p1, p2))
  paper = form == "paper"
  pairings = [
    information.matrix_ssl_terms(
      p,
      z,
      scale=1 / z.shape[1] + ridge if paper else 1.0,
      ridge=ridge,
      order=order,
      plus_trace=paper,
      symmetrise=symmetrise,
    )
    for p, z in ((p2, z1), (p1, z2))
  ]
  spread, match = (sum(terms) / 2 for terms in zip(*pairings, strict=True))
  return uniformity * spread + gamma * match, {
    "uniformity": spread,
    "alignment": match,
  }


def make(
  encoder,
  run,
  *,
  uniformity=1.0,
  ridge=1.0,
  gamma=1.0,
  order=4,
  form="program",
  symmetrise=False,
  momentum=0.996,
  projector=None,
  predictor=None,
) -> Objective:
  """Matrix-SSL as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    uniformity, ridge, gamma, order, form, symmetrise: as in
      `matrix_ssl_loss`.
    momentum: of the teacher at the first step, in [0, 1]; goes to 1 along
      half a cosine.
    projector, predictor: keywords of `heads.MLP` that differ from the paper's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range, heads of different output widths.
  """

  def criterion(students, targets, step):
    del step
    return matrix_ssl_loss(
      *targets,
      *students,
      uniformity=uniformity,
      ridge=ridge,
      gamma=gamma,
      order=order,
      form=form,
      symmetrise=symmetrise,
    )

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, SIAMESE_PROJECTOR, projector),
    predictor=head("predictor", encoder, SIAMESE_PREDICTOR, predictor),
    teacher=Teacher(parts.cosine_momentum(momentum, run.total_steps)),
  )
