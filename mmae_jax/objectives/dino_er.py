"""DINO+ER: DINO's networks, trained on the entropy-reconstruction bound."""

import functools

import jax

from mmae_jax.information import spectra
from mmae_jax.objectives import dino, er, multi_crop
from mmae_jax.types import Objective


def dino_er_loss(
  students,
  teachers,
  *,
  centre=0.0,
  student_temperature=0.1,
  teacher_temperature=0.04,
  symmetric=False,
  entropy_scope=None,
  entropy_views="global",
):
  """Negative ER bound of class distributions: DINO's loss less an entropy.

      dino_loss - H(mean_i softmax(student_i / student_temperature)),

  the mean of the entropies of the student's views.

  Args:
    students, teachers: as in `dino.dino_loss`.
    centre, student_temperature, teacher_temperature: the same; what the
      published runs had is unknown.
    symmetric: the mean of the cross-entropies of both directions, as in the
      authors' program; the default is DINO's own direction, our choice.
    entropy_scope: None for the global batch, or groups of so many images.
    entropy_views: "global", the student's first two views, our choice; "all".
      Which the paper has is unknown.
  Returns:
    (scalar, terms), see `er.of_categories`; nats, at least -log classes.
  Raises:
    ValueError: as `dino.dino_loss` and `er.of_categories`.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907, section 5.
  """
  temperatures = {
    "student_temperature": student_temperature,
    "teacher_temperature": teacher_temperature,
  }
  reconstruction = dino.dino_loss(
    students, teachers, centre=centre, **temperatures
  )
  logits = spectra.widen(students) / student_temperature
  if symmetric:
    log_p = jax.nn.log_softmax(
      jax.lax.stop_gradient(spectra.widen(teachers) - centre)
      / teacher_temperature
    )
    backwards = multi_crop.across_views(log_p, jax.nn.softmax(logits))
    reconstruction = (reconstruction + backwards) / 2
  return er.of_categories(
    reconstruction,
    logits,
    entropy_scope=entropy_scope,
    entropy_views=entropy_views,
  )


def make(
  encoder,
  run,
  *,
  symmetric=False,
  entropy_scope=None,
  entropy_views="global",
  **hyperparameters,
) -> Objective:
  """DINO+ER as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    symmetric, entropy_scope, entropy_views: as in `dino_er_loss`.
    **hyperparameters: of `dino.distillation`.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """
  criterion = functools.partial(
    dino_er_loss,
    symmetric=symmetric,
    entropy_scope=entropy_scope,
    entropy_views=entropy_views,
  )
  return dino.distillation(encoder, run, criterion, **hyperparameters)
