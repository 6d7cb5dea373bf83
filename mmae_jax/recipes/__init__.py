"""What the config files of `configs/` have in common."""

from mmae_jax.recipes.er import ER, like_er, of_categories, on_the_sphere
from mmae_jax.recipes.joint_embedding import (
  JOINT_EMBEDDING,
  joint_embedding,
  like_mec,
)
from mmae_jax.recipes.language import LANGUAGE, language
from mmae_jax.recipes.masked import MASKED, masked
from mmae_jax.recipes.multi_crop import (
  like_deepcluster,
  like_dino,
  like_prototypes,
  like_swav,
  multi_crop,
)

__all__ = [
  "ER",
  "JOINT_EMBEDDING",
  "LANGUAGE",
  "MASKED",
  "joint_embedding",
  "language",
  "like_deepcluster",
  "like_dino",
  "like_er",
  "like_mec",
  "like_prototypes",
  "like_swav",
  "masked",
  "multi_crop",
  "of_categories",
  "on_the_sphere",
]
