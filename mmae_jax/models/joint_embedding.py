"""Encoder, projector and, for some methods, predictor in a row."""

from typing import NamedTuple

from flax import linen as nn
import jax

Array = jax.Array


class Embedding(NamedTuple):
  """What one pass of a `JointEmbedding` yields, a row per image.

  Attributes:
    representation: [batch, feature_dim] of the encoder; what evaluation reads.
    projection: [batch, dim] of the projector, not normalised.
    prediction: [batch, dim] of the predictor; the projection where there is
      none.
  """

  representation: Array
  projection: Array
  prediction: Array


class JointEmbedding(nn.Module):
  """An encoder with the heads that joint-embedding methods put on top.

  Attributes:
    encoder: a module with `represent(images, *, train, groups)`.
    projector: a head, `heads.MLP`.
    predictor: another on the projection, or None.
  """

  encoder: nn.Module
  projector: nn.Module
  predictor: nn.Module | None = None

  def __call__(
    self, images: Array, *, train: bool, groups: Array | None = None
  ) -> Embedding:
    """Embeds images.

    Args:
      images: [batch, height, width, 3], float, normalised.
      train: batch normalisation with the statistics of this batch.
      groups: rows that share those statistics, see `norm.BatchNorm`.
    Returns:
      An Embedding.
    """
    h = self.encoder.represent(images, train=train, groups=groups)
    z = self.projector(h, train=train, groups=groups)
    if self.predictor is None:
      return Embedding(h, z, z)
    return Embedding(h, z, self.predictor(z, train=train, groups=groups))

  @property
  def has_batch_norm(self) -> bool:
    """Whether the rows of a batch have a say in each other's embedding."""
    modules = (self.encoder, self.projector, self.predictor)
    return any(m.has_batch_norm for m in modules if m is not None)
