"""SimCLR: contrastive learning within the batch (NT-Xent)."""

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.information import checks, spectra
from mmae_jax.objectives.networks import head
from mmae_jax.objectives.two_view import two_view
from mmae_jax.types import Objective

# Under BatchNorm no bias is needed; the last one has a scale and no offset.
PROJECTOR = {
  "widths": (2048, 2048, 128),
  "last_norm": "scale",
}


def simclr_loss(z1, z2, *, temperature=0.1):
  """NT-Xent, the loss of SimCLR.

      -mean_a log(exp(s_ab / t) / sum_{c != a} exp(s_ac / t)),   s = cosines,

  over the 2 batch anchors a of both views; b is the other view of a's image,
  c runs over the 2 batch - 1 other anchors.

  Args:
    z1, z2: projections of the two views, [batch, dim]; rows are normalised
      here. The gradient goes through both.
    temperature: t, positive.
  Returns:
    Scalar in nats, at least float32; log(2 batch - 1) where all cosines are
    equal.
  Raises:
    ValueError: shapes differ, not floating-point matrices, fewer than two
      rows, or temperature is not positive.
  Source:
    Chen et al. 2020, https://arxiv.org/abs/2002.05709. The authors' program
    adds the means over the two views, twice this mean over all anchors: a
    recipe of theirs has weight 2 (under LARS that acts on biases and norms).
  """
  checks.check_positive("temperature", temperature)
  checks.check_same_shape(z1=z1, z2=z2)
  checks.check_rows("z1", z1)
  z1, z2 = information.normalise_rows(z1), information.normalise_rows(z2)
  batch, dim = z1.shape
  # The two views of an image are neighbours: rows stay on their device. And
  # not `spectra.self_product`, whose gradient transposes the sharded matrix.
  z = jnp.stack([z1, z2], axis=1).reshape(2 * batch, dim)
  logits = spectra.matmul(z, z.T) / temperature
  itself = jnp.eye(2 * batch, dtype=bool)
  evidence = jax.nn.logsumexp(jnp.where(itself, -jnp.inf, logits), axis=1)
  positives = jnp.sum(z1 * z2, axis=1, keepdims=True) / temperature
  return jnp.mean(evidence.reshape(batch, 2) - positives)


def make(
  encoder,
  run,
  *,
  temperature=0.1,
  weight=1.0,
  joint=True,
  projector=None,
) -> Objective:
  """SimCLR as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    temperature: as in `simclr_loss`.
    weight: factor of the loss; the authors' program sums the two directions,
      which is 2.
    joint: both views in one batch, under common BatchNorm statistics, as the
      authors have it; else one pass a view.
    projector: keywords of `heads.MLP` that differ from the program's.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """
  checks.check_positive("weight", weight)

  def criterion(students, targets, step):
    del targets, step
    return weight * simclr_loss(*students, temperature=temperature)

  return two_view(
    encoder,
    run,
    criterion,
    projector=head("projector", encoder, PROJECTOR, projector),
    joint=joint,
  )
