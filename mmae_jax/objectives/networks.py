"""Student and teacher of the two-view methods: heads, passes, branches."""

from collections.abc import Callable
import dataclasses

import jax

from mmae_jax.models import heads
from mmae_jax.models.joint_embedding import JointEmbedding
from mmae_jax.objectives import parts
from mmae_jax.types import UsageError

# The heads of SimSiam, MEC and Matrix-SSL. The programs' projector ends in a
# bias that is frozen under BatchNorm, which takes it away again: left out.
SIAMESE_PROJECTOR = {"widths": (2048, 2048, 2048), "last_norm": "plain"}
SIAMESE_PREDICTOR = {"widths": (512, 2048), "last_bias": True}


def head(name, encoder, recipe, changes):
  """A projector or predictor.

  Args:
    name: the hyperparameter that holds `changes`, for the message.
    encoder: lends its compute type, and a ResNet what its BatchNorm has.
    recipe: the method's keywords of `heads.MLP`.
    changes: keywords that replace some of them, or None.
  Returns:
    The head, a linen module.
  Raises:
    ValueError: a key that a head does not have, or a value that it refuses.
  """
  changes = dict(changes or {})
  known = [field.name for field in dataclasses.fields(heads.MLP)]
  known = [key for key in known if key not in ("name", "parent")]
  for key in changes:
    if key not in known:
      raise ValueError(
        f"{name} has no key {key!r}; known: {', '.join(sorted(known))}"
      )
  if "widths" in changes:
    changes["widths"] = tuple(changes["widths"])
  shared = ("dtype", "group_size", "momentum", "epsilon")
  lent = {key: getattr(encoder, key) for key in shared if hasattr(encoder, key)}
  try:
    return heads.MLP(**{**lent, **recipe, **changes})
  except ValueError as e:
    raise ValueError(f"{name}: {e}") from e


@dataclasses.dataclass(frozen=True)
class Teacher:
  """How a method keeps its teacher.

  Attributes:
    rate: step -> 1 - momentum, such as `parts.cosine_momentum(...)`.
    before: the average moves before the teacher's pass, towards parameters
      that this step has not updated yet (MoCo); else after the optimizer.
    copied: starts as a copy of the student; else with weights of its own.
  """

  rate: Callable[..., jax.Array | float]
  before: bool = False
  copied: bool = True


class Networks:
  """Student and teacher passes of one method, and what they leave behind."""

  def __init__(
    self,
    encoder,
    run,
    *,
    projector,
    predictor=None,
    prototypes=None,
    teacher=None,
  ):
    """Checks that batch, groups and micro-batches go together.

    Args:
      encoder: a backbone.
      run: facts of the run.
      projector, predictor, prototypes: heads.
      teacher: a Teacher, or None.
    Raises:
      UsageError: fewer than two images, micro-batches under BatchNorm, groups
        that do not divide the batch.
    """
    self.student = JointEmbedding(encoder, projector, predictor, prototypes)
    # The teacher predicts nothing.
    self.target = JointEmbedding(encoder, projector, None, prototypes)
    self.teacher = teacher
    self.microbatches = run.microbatches
    _check_batch(self.student, run)

  def init(self, key, views):
    """(params, model_state, carry) of the student and, if any, the teacher."""
    image = views["global"][:1, 0]
    student_key, teacher_key = jax.random.split(key)
    variables = dict(self.student.init(student_key, image, train=True))
    params = variables.pop("params")
    if self.teacher is None:
      return params, variables, {}
    target = dict(self.target.init(teacher_key, image, train=True))
    own = target.pop("params")
    kept = {name: params[name] for name in own}
    return (
      params,
      variables,
      {
        "teacher": {
          "params": kept if self.teacher.copied else own,
          "model_state": target,
        }
      },
    )

  def embed(self, params, model_state, images, *, target=False, groups=None):
    """One pass with the statistics of the batch.

    Args:
      params, model_state: of the student, or of the teacher.
      images: [batch, height, width, 3].
      target: without the predictor.
      groups: see `norm.BatchNorm`.
    Returns:
      (Embedding, model_state after it).
    """
    module = self.target if target else self.student

    def apply(images):
      return module.apply(
        {"params": params, **model_state},
        images,
        train=True,
        groups=groups,
        mutable=["batch_stats"],
      )

    if self.student.has_batch_norm:
      embedding, updated = apply(images)
      return embedding, {**model_state, **updated}
    embedding = parts.apply(
      lambda part: apply(part)[0],
      images,
      microbatches=self.microbatches,
    )
    return embedding, model_state

  def per_view(self, params, model_state, views, *, target=False):
    """The first two views one after the other, each with its own statistics.

    Returns:
      ((Embedding, Embedding), model_state): running statistics have moved
      twice.
    """
    embeddings = []
    for view in range(2):
      embedding, model_state = self.embed(
        params, model_state, views["global"][:, view], target=target
      )
      embeddings.append(embedding)
    return tuple(embeddings), model_state

  def joint(self, params, model_state, views):
    """Both views in one batch, with common statistics; as `per_view`."""
    # Folded image by image: the rows stay on their device.
    images = views["global"][:, :2]
    folded = images.reshape(-1, *images.shape[2:])
    embedding, model_state = self.embed(params, model_state, folded)
    pairs = jax.tree.map(lambda x: x.reshape(-1, 2, x.shape[-1]), embedding)
    return tuple(
      jax.tree.map(lambda x, view=view: x[:, view], pairs) for view in range(2)
    ), model_state

  def moved(self, carry, params, step):
    """The carry after the teacher's average has moved towards the student."""
    teacher = carry["teacher"]
    towards = {name: params[name] for name in teacher["params"]}
    average = parts.ema(
      teacher["params"],
      jax.lax.stop_gradient(towards),
      self.teacher.rate(step),
    )
    return {**carry, "teacher": {**teacher, "params": average}}

  def after_update(self, params, carry, step):
    """As `Objective.after_update`."""
    if self.teacher is None or self.teacher.before:
      return params, carry
    return params, self.moved(carry, params, step)

  def frozen_pair(self, params, state, views):
    """Embeddings of view 1 by the student and of view 2 by its target.

    With running statistics: an image's depends on that image alone, whatever
    the batches that the probe set is cut into. The target is the teacher where
    there is one, else the student.
    """
    variables = {"params": params, **state.model_state}
    target, own = self.student, variables
    if self.teacher is not None:
      teacher = state.carry["teacher"]
      target = self.target
      own = {"params": teacher["params"], **teacher["model_state"]}
    first, second = (views["global"][:, i] for i in range(2))
    return (
      self.student.apply(variables, first, train=False),
      target.apply(own, second, train=False),
    )

  def branches(self, key, params, state, views):
    """As `Objective.branches`, with running statistics.

    The branches are the two projections; with a predictor the first is the
    prediction of view 1; with a teacher the second is the teacher's projection
    of view 2. The representation that evaluation reads is measured besides.
    """
    del key
    first, second = self.frozen_pair(params, state, views)
    names = ("view_1", "view_2")
    if self.student.predictor is not None:
      names = ("prediction", "projection")
    if self.teacher is not None:
      names = ("student", "teacher")
    return {
      names[0]: first.prediction,
      names[1]: second.projection,
      "representation": first.representation,
    }


def _check_batch(network, run):
  flag = f"--config.batch_size={run.batch_size}"
  if run.batch_size < 2:
    raise UsageError(f"{flag}: a two-view method needs at least 2 images")
  if run.microbatches > 1 and network.has_batch_norm:
    raise UsageError(
      f"--config.microbatches={run.microbatches}: this network has BatchNorm,"
      " whose statistics are those of the whole batch; in micro-batches it"
      " would be another network. Use --config.microbatches=1; memory is saved"
      " by --config.encoder.remat=True and by more devices"
    )
  for name in ("encoder", "projector", "predictor"):
    group = getattr(getattr(network, name), "group_size", 0)
    if group and run.batch_size % group:
      key = "encoder" if name == "encoder" else f"objective.{name}"
      raise UsageError(
        f"--config.{key}.group_size={group}: does not divide {flag}"
      )
