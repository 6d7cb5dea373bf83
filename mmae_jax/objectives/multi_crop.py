"""Many crops of an image: one pass a resolution, one pass of the heads."""

import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax import information
from mmae_jax.information import spectra
from mmae_jax.models.joint_embedding import JointEmbedding
from mmae_jax.objectives import parts
from mmae_jax.objectives.two_view import embedding_std
from mmae_jax.types import Output

GLOBALS = 2  # views that become targets
KINDS = ("global", "local")


def embed(
  networks, params, model_state, views, *, target=False, drop_path=None
):
  """All crops of a batch.

  The crops of one size go through the encoder together, so that BatchNorm
  takes its statistics of them all (and its running ones move once a size); the
  heads see the crops of all sizes at once. With `group_size` a group has the
  crops of so many images.

  Args:
    networks: a `networks.Networks`.
    params, model_state: of the student, or of the teacher.
    views: "global" and perhaps "local", [batch, views, size, size, 3].
    target: the teacher's network, which sees the global crops alone.
    drop_path: (key, rate) of the student's blocks, see `branch_scales`; None
      or a rate of 0 leaves nothing out.
  Returns:
    (Embedding, model_state): leaves [batch, views, dim], global crops first.
  """
  module = networks.target if target else networks.student
  kinds = [k for k in KINDS if k in views and not (target and k == "local")]
  counts = [views[kind].shape[1] for kind in kinds]

  def of_kind(kind, count, model_state):
    images = views[kind]
    scales = None
    if drop_path is not None and drop_path[1]:
      scales = branch_scales(
        drop_path, views["seed"], kind, (count, module.encoder.depth)
      )

    def apply(part):
      images, scales = part
      left_out = {} if scales is None else {"branch_scales": _fold(scales)}
      h, updated = _grouped(module, count).apply(
        {"params": params, **model_state},
        _fold(images),
        train=True,
        mutable=["batch_stats"],
        method="represent",
        **left_out,
      )
      return _unfold(h, count), updated

    if module.has_batch_norm:
      h, updated = apply((images, scales))
      return h, {**model_state, **updated}
    h = parts.apply(
      lambda part: apply(part)[0],
      (images, scales),
      microbatches=networks.microbatches,
    )
    return h, model_state

  representations = []
  for kind, count in zip(kinds, counts, strict=True):
    h, model_state = of_kind(kind, count, model_state)
    representations.append(h)
  h = jnp.concatenate(representations, axis=1)
  embedding, updated = _grouped(module, sum(counts)).apply(
    {"params": params, **model_state},
    _fold(h),
    train=True,
    mutable=["batch_stats"],
    method="project",
  )
  model_state = {**model_state, **updated}
  unfolded = jax.tree.map(lambda x: _unfold(x, sum(counts)), embedding)
  return unfolded, model_state


def output(embedding, metrics, model_state, carry):
  """What a step leaves behind, of the first large crop.

  Args:
    embedding: of `embed`, by the student.
    metrics: named scalars.
    model_state: after the pass.
    carry: after the pass.
  Returns:
    An Output.
  """
  spread = embedding_std(embedding.projection[:, 0])
  return Output(
    metrics={**metrics, "embedding_std": spread},
    features=embedding.representation[:, 0],
    model_state=model_state,
    carry=carry,
  )


def branch_scales(drop_path, seeds, kind, shape):
  """Which branches of the blocks are left out, and what the others gain.

  Branches of block l of L are left out with probability rate l / (L - 1), each
  for itself, and divided by the probability that they stay.

  Args:
    drop_path: (key, rate).
    seeds: uint32 [batch], of the images.
    kind: of the views.
    shape: (views, depth).
  Returns:
    [batch, views, depth, 2].
  Source:
    Huang et al. 2016 (arXiv 1603.09382).
  """
  key, rate = drop_path
  keys = parts.image_keys(jax.random.fold_in(key, KINDS.index(kind)), seeds)
  draws = jax.vmap(lambda k: jax.random.uniform(k, (*shape, 2)))(keys)
  stays = 1 - np.linspace(0, rate, shape[1])[:, None]
  return jnp.where(draws < stays, 1 / stays, 0.0)


def check_drop_path(encoder, rate):
  """Refuses a rate at which blocks of the encoder cannot be left out.

  Args:
    encoder: a backbone.
    rate: of `branch_scales`.
  Raises:
    ValueError: outside [0, 1), or not 0 with an encoder that is no ViT.
  """
  if not 0 <= rate < 1:
    raise ValueError(f"drop_path must be in [0, 1), got {rate!r}")
  if rate and not hasattr(encoder, "num_patches"):
    raise ValueError(
      f"drop_path must be 0 with a {type(encoder).__name__}; a ViT's blocks can"
      " be left out"
    )


def across_views(targets, log_q):
  """Cross-entropy of each target with the other views of its image.

      -mean over the pairs (t, s), s not t, mean_i sum_k p_itk log q_isk

  Args:
    targets: probabilities p, [batch, targets, classes], of the first views.
    log_q: log-probabilities, [batch, views, classes].
  Returns:
    Scalar in nats, at least float32.
  Raises:
    ValueError: shapes that do not belong together, or only one view.
  """
  count, views = jnp.shape(targets)[1], jnp.shape(log_q)[1]
  if views < max(count, 2):
    raise ValueError(
      f"log_q must have at least 2 views and those of the {count} targets, got"
      f" {views}"
    )
  # t target, s view, b image, k class
  pairs = -jnp.einsum(
    "btk,bsk->ts",
    spectra.widen(targets),
    spectra.widen(log_q),
    precision=jax.lax.Precision.HIGHEST,
  ) / len(targets)
  other = ~np.eye(count, views, dtype=bool)
  return jnp.sum(jnp.where(other, pairs, 0.0)) / other.sum()


def normalise(z):
  """Rows of unit length.

  Args:
    z: [batch, views, dim].
  Returns:
    The same shape, at least float32.
  """
  return information.normalise_rows(_fold(z)).reshape(z.shape)


def check_views(**named):
  """Refuses what is not [batch, views, classes] of one batch.

  Args:
    **named: the arrays.
  Raises:
    ValueError: another number of axes or type, or different batches or classes.
  """
  shapes = {}
  for name, x in named.items():
    shape = jnp.shape(x)
    if len(shape) != 3 or not jnp.issubdtype(jnp.result_type(x), jnp.floating):
      raise ValueError(
        f"{name} must be floating-point [batch, views, classes], got"
        f" {jnp.result_type(x)} {list(shape)}"
      )
    shapes[name] = (shape[0], shape[2])
  if len(set(shapes.values())) > 1:
    raise ValueError(f"batch and classes must be the same, got {shapes}")


def _fold(x):
  """[batch, views, ...] -> [batch * views, ...]; rows stay on their device."""
  return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _unfold(x, count):
  return x.reshape(-1, count, *x.shape[1:])


def _grouped(module, count):
  """The network whose groups have `count` rows of every image."""

  def wider(part):
    group = getattr(part, "group_size", 0)
    return part.clone(group_size=group * count) if group else part

  return JointEmbedding(
    *(
      part if part is None else wider(part)
      for part in (
        *(module.encoder, module.projector),
        *(module.predictor, module.prototypes),
      )
    )
  )
