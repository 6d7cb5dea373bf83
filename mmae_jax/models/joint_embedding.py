"""Encoder, projector and, for some methods, what stands on top of it."""

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
    scores: [batch, classes], cosines of the projection with prototypes; None
      where there are none.
  """

  representation: Array
  projection: Array
  prediction: Array
  scores: Array | None = None


class JointEmbedding(nn.Module):
  """An encoder with the heads that joint-embedding methods put on top.

  Attributes:
    encoder: a module with `represent(images, *, train, groups)`.
    projector: a head, `heads.MLP`.
    predictor: another on the projection, or None.
    prototypes: `heads.Prototypes` on the projection, or None.
  """

  encoder: nn.Module
  projector: nn.Module
  predictor: nn.Module | None = None
  prototypes: nn.Module | None = None

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
    return self.project(
      self.encoder.represent(images, train=train, groups=groups),
      train=train,
      groups=groups,
    )

  def represent(self, images: Array, **kwargs) -> Array:
    """The encoder alone, [batch, feature_dim]."""
    return self.encoder.represent(images, **kwargs)

  def project(
    self, h: Array, *, train: bool, groups: Array | None = None
  ) -> Embedding:
    """The heads alone, as `__call__`.

    Args:
      h: representations, [batch, feature_dim].
      train: as `__call__`.
      groups: as `__call__`.
    Returns:
      An Embedding.
    """
    z = self.projector(h, train=train, groups=groups)
    p = z
    if self.predictor is not None:
      p = self.predictor(z, train=train, groups=groups)
    scores = None if self.prototypes is None else self.prototypes(z)
    return Embedding(h, z, p, scores)

  @property
  def has_batch_norm(self) -> bool:
    """Whether the rows of a batch have a say in each other's embedding."""
    modules = (self.encoder, self.projector, self.predictor)
    return any(m.has_batch_norm for m in modules if m is not None)
