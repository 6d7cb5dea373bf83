"""What the config files of `configs/` have in common."""

from mmae_jax.recipes.joint_embedding import (
  JOINT_EMBEDDING,
  joint_embedding,
  like_mec,
)
from mmae_jax.recipes.masked import MASKED, masked

__all__ = [
  "JOINT_EMBEDDING",
  "MASKED",
  "joint_embedding",
  "like_mec",
  "masked",
]
