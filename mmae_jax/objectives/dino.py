"""DINO: self-distillation with centred and sharpened teachers."""

import functools

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra
from mmae_jax.models.heads import Prototypes
from mmae_jax.objectives import multi_crop, parts
from mmae_jax.objectives.networks import Networks, Teacher, head
from mmae_jax.types import Objective

_PROJECTOR = {
  "widths": (2048, 2048, 256),
  "hidden_bias": True,
  "last_bias": True,
  "hidden_norm": False,
  "activation": "gelu",
  "begin": "truncated",
}


def dino_loss(
  students,
  teachers,
  *,
  centre=0.0,
  student_temperature=0.1,
  teacher_temperature=0.04,
):
  """Loss of DINO: cross-entropy from each teacher's view to the others.

      -mean over the pairs (t, s), s not t, mean_i sum_k p_itk log q_isk,
      p = softmax((teacher - centre) / teacher_temperature),
      q = softmax(student / student_temperature)

  Args:
    students: scores of all views, [batch, views, classes], the teacher's first.
    teachers: scores of the global views, [batch, 2, classes]. No gradient goes
      through them.
    centre: running mean of the teacher's scores, [classes], or 0.
    student_temperature: positive.
    teacher_temperature: positive, or a scalar that may be traced; below the
      student's it sharpens.
  Returns:
    Scalar in nats, at least float32; log classes where everything is uniform.
  Raises:
    ValueError: shapes that do not belong together, a temperature is not
      positive.
  Source:
    Caron et al. 2021, https://arxiv.org/abs/2104.14294.
  """
  multi_crop.check_views(students=students, teachers=teachers)
  checks.check_positive("student_temperature", student_temperature)
  checks.check_positive("teacher_temperature", teacher_temperature)
  targets = jax.nn.softmax(
    jax.lax.stop_gradient(spectra.widen(teachers) - centre)
    / teacher_temperature
  )
  log_q = jax.nn.log_softmax(spectra.widen(students) / student_temperature)
  return multi_crop.across_views(targets, log_q)


def make(encoder, run, **hyperparameters) -> Objective:
  """DINO as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    **hyperparameters: of `distillation`.
  Returns:
    The Objective.
  Raises:
    ValueError: as `distillation`.
  """

  return distillation(encoder, run, dino_loss, **hyperparameters)


def distillation(
  encoder,
  run,
  criterion,
  *,
  prototypes=65_536,
  student_temperature=0.1,
  teacher_temperature=0.04,
  warmup_teacher_temperature=0.04,
  warmup_epochs=0.0,
  momentum=0.996,
  centring=True,
  centre_momentum=0.9,
  freeze_epochs=1.0,
  drop_path=0.0,
  projector=None,
) -> Objective:
  """DINO's student and teacher with a criterion on their scores.

  The teacher sees the global views and follows the student after each step,
  with a momentum that goes from `momentum` to 1 along half a cosine. The
  centre is used before it moves towards the mean of the teacher's scores.

  Args:
    encoder: a backbone.
    run: facts of the run.
    criterion: (students, teachers, centre=, student_temperature=,
      teacher_temperature=) -> scalar, or a tuple of it and named scalars; see
      `dino_loss`.
    prototypes: classes, at least 2.
    student_temperature: as in `dino_loss`.
    teacher_temperature: after the warm-up.
    warmup_teacher_temperature: of the first epoch; goes to the other along a
      line, one value an epoch.
    warmup_epochs: until then.
    momentum: of the teacher at the first step, in [0, 1].
    centring: whether the teacher's scores are centred.
    centre_momentum: share of the old centre that is kept, in [0, 1].
    freeze_epochs: the prototypes stay as they began for so long.
    drop_path: highest rate at which the student's branches are left out.
    projector: keywords of `heads.MLP` that differ from the program's.
  Returns:
    The Objective; it needs two global views and takes local ones.
  Raises:
    ValueError: a value out of its range.
  """
  multi_crop.check_drop_path(encoder, drop_path)
  if not 0 <= centre_momentum <= 1:
    raise ValueError(
      f"centre_momentum must be in [0, 1], got {centre_momentum!r}"
    )
  projector = head("projector", encoder, _PROJECTOR, projector)
  networks = Networks(
    encoder,
    run,
    projector=projector,
    prototypes=Prototypes(prototypes),
    teacher=Teacher(parts.cosine_momentum(momentum, run.total_steps)),
  )
  frozen = parts.frozen_steps("freeze_epochs", freeze_epochs, run)
  if not 0 <= run.steps(warmup_epochs) <= run.total_steps:
    raise ValueError(
      "warmup_epochs must be at least 0 and at most the run's --config.epochs,"
      f" got {warmup_epochs!r}"
    )

  def temperature(step):
    if not warmup_epochs:
      return teacher_temperature
    # numpy.linspace over whole epochs.
    epoch = step // run.steps_per_epoch
    share = jnp.clip(epoch / max(warmup_epochs - 1, 1), 0.0, 1.0)
    return warmup_teacher_temperature + share * (
      teacher_temperature - warmup_teacher_temperature
    )

  for name, value in (
    ("teacher_temperature", teacher_temperature),
    ("warmup_teacher_temperature", warmup_teacher_temperature),
  ):
    checks.check_positive(name, value)
  compare = functools.partial(
    criterion, student_temperature=student_temperature
  )
  # Traced once here: bad values are refused before anything is compiled.
  scores = jax.ShapeDtypeStruct((run.batch_size, 2, prototypes), jnp.float32)
  jax.eval_shape(
    functools.partial(compare, teacher_temperature=teacher_temperature),
    scores,
    scores,
  )

  def init(key, views):
    params, model_state, carry = networks.init(key, views)
    if centring:
      carry = {**carry, "centre": jnp.zeros((prototypes,))}
    return params, model_state, carry

  def loss(key, params, state, views):
    students, model_state = multi_crop.embed(
      networks,
      params,
      state.model_state,
      views,
      drop_path=(key, drop_path),
    )
    kept = state.carry["teacher"]
    teachers, statistics = multi_crop.embed(
      networks, kept["params"], kept["model_state"], views, target=True
    )
    carry = {
      **state.carry,
      "teacher": {"params": kept["params"], "model_state": statistics},
    }
    tau = temperature(state.step)
    value, metrics = parts.with_terms(
      compare(
        students.scores,
        teachers.scores,
        centre=carry.get("centre", 0.0),
        teacher_temperature=tau,
      )
    )
    if centring:
      raw = jax.lax.stop_gradient(teachers.scores)
      carry["centre"] = parts.ema(
        carry["centre"], raw.mean(axis=(0, 1)), 1 - centre_momentum
      )
    metrics = {
      **metrics,
      "momentum": 1 - networks.teacher.rate(state.step),
      "teacher_temperature": jnp.asarray(tau, jnp.float32),
    }
    return value, multi_crop.output(students, metrics, model_state, carry)

  def categories(params, state, views):
    first, second = networks.frozen_pair(params, state, views)
    centre = state.carry.get("centre", 0.0)
    return (
      first.scores / student_temperature,
      (second.scores - centre) / temperature(state.step),
    )

  return Objective(
    init=init,
    loss=loss,
    after_update=networks.after_update,
    branches=networks.branches,
    categories=categories,
    wrap_optimizer=parts.freeze("prototypes", step=frozen),
    needs={"global": multi_crop.GLOBALS},
    takes=("local",),
  )
