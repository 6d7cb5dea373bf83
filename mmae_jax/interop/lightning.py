"""Formats of the libraries on Lightning, solo-learn and lightly.

A file has the networks of any of their methods, told apart by the names.
"""

from mmae_jax.interop import layouts, names
from mmae_jax.interop.format import Format
from mmae_jax.interop.names import Entry, Table, mlp, prefixed, weight_norm

# Of its MoCo v3 and MAE; those of its other methods are timm's.
SOLO_LEARN_HEADS = ((192, 12), (384, 12), (768, 12), (1024, 16))

_LIGHTLY: Table = (
  *prefixed(names.VIT, "backbone.vit."),
  *prefixed(names.RESNET, "backbone."),
  *prefixed(names.NUMBERED_RESNET, "backbone."),
  *mlp("projection_head.layers.", "projector"),
)

LIGHTLY_DINO = Format(
  "lightly_dino",
  signs=(r"student_backbone\.", r"backbone\."),
  student=(
    *prefixed(_LIGHTLY, "student_"),
    *weight_norm("student_projection_head.last_layer"),
  ),
  teacher=(*_LIGHTLY, *weight_norm("projection_head.last_layer")),
  needs_teacher=True,
  carry=(Entry("criterion.center", "centre", layouts.LIGHTLY_ROW),),
  evaluated="teacher",
  objective="dino",
  wrapper="state_dict",
)

LIGHTLY = Format(
  "lightly",
  signs=(
    r"(online_classifier|projection_head\.layers|backbone\.vit)\.",
    r"backbone\.",
  ),
  student=(
    *_LIGHTLY,
    *mlp("prediction_head.layers.", "predictor"),
    *names.LIGHTLY_DECODER,
    *prefixed(names.MAE_DECODER, "decoder."),  # 1.5.1 to 1.5.26
    Entry("prototypes.heads.0", "prototypes", layouts.PROTOTYPES),
    Entry("prototypes.layers", "prototypes", layouts.PROTOTYPES),
  ),
  teacher=(
    *prefixed(_LIGHTLY, "teacher_", where=("predictor",)),
    *prefixed(_LIGHTLY, "key_", where=("!predictor",)),
  ),
  wrapper="state_dict",
)


def _solo_learn(momentum: str) -> Table:
  """Names of the network, or of its twin with "momentum_" before them."""
  return (
    *names.backbone(f"{momentum}backbone."),
    *names.backbone(f"{momentum}encoder."),  # before 2022
    *mlp(f"{momentum}projector.", "projector"),
    *mlp(f"{momentum}head.mlp.", "projector"),
    *weight_norm(f"{momentum}head.last_layer"),
  )


SOLO_LEARN = Format(
  "solo_learn",
  signs=(
    r"(classifier\.weight|momentum_(backbone|projector)\.)",
    r"(backbone|encoder)\.",
  ),
  student=(
    *_solo_learn(""),
    *mlp("predictor.", "predictor"),
    *prefixed(names.MAE_DECODER, "decoder."),
  ),
  teacher=_solo_learn("momentum_"),
  carry=(
    Entry("prototypes.{k}", "centroids/{k}", layouts.CENTROIDS),
    Entry("dino_loss_func.center", "centre", layouts.ROW),
  ),
  wrapper="state_dict",
)
