"""The known formats, in the order in which they are tried.

Sources are the programs named in README.md; a name in a table is a fact about
a file, no code of those programs is here. A file of several dictionaries of
tensors (DINO's) has names such as `student:backbone.norm.weight`.
"""

from mmae_jax.interop import layouts, lightning, names
from mmae_jax.interop.format import IMAGENET, MOCO_V3_HEADS, Format
from mmae_jax.interop.names import Entry, Table, mlp, prefixed, weight_norm

# SwAV and DeepCluster-v2 have another deviation of the red channel.
_SWAV_PIXELS = (IMAGENET[0], (0.228, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# How most programs of Meta's write their networks.
_STATE_DICT = {"wrapper": "state_dict", "prefix": "module."}
_MODEL = {"wrapper": "model", "prefix": "module."}


def _twins(parts: Table, student: str, teacher: str) -> dict[str, Table]:
  return {
    "student": prefixed(parts, student),
    "teacher": prefixed(parts, teacher),
  }


# SimSiam's encoder with its projector, and predictor.
_SIMSIAM_ENCODER: Table = (
  *names.RESNET,
  *mlp("fc.", "projector", frozen_bias=2),
)
_SIMSIAM: Table = (
  *prefixed(_SIMSIAM_ENCODER, "encoder."),
  *mlp("predictor.", "predictor"),
)
_MOCO: Table = (
  *names.RESNET,
  *mlp("fc.", "projector"),
  Entry("fc", "projector/linear_0", layouts.LINEAR),  # version 1
)
_MOCO_V3: Table = (
  *names.backbone(""),
  *mlp("fc.", "projector", where=("encoder/conv1",)),
  *mlp("head.", "projector", where=("encoder/cls_token",)),
)
_DINO: Table = (
  *names.backbone("backbone."),
  *mlp("head.mlp.", "projector"),
  *weight_norm("head.last_layer"),
)
_SWAV: Table = (
  *names.RESNET,
  *mlp("projection_head.", "projector"),
  Entry("projection_head", "projector/linear_0", layouts.LINEAR),
)
_WITH_PROJECTOR: Table = (
  *names.backbone("backbone."),
  *mlp("projector.", "projector"),
)


def _mec(name: str) -> Format:
  return Format(
    name,
    signs=(r"encoder\.conv1\.weight", r"encoder\.fc\.6\.", r"teacher\.conv1\."),
    student=_SIMSIAM,
    teacher=prefixed(_SIMSIAM_ENCODER, "teacher."),
    needs_teacher=True,
    objective=name,
    **_STATE_DICT,
  )


def _mae(name: str, signs: tuple[str, ...]) -> Format:
  return Format(
    name,
    signs=signs,
    student=(*names.VIT, *names.MAE_DECODER),
    objective=name,
    wrapper="model",
  )


# In the order in which they are tried.
FORMATS: dict[str, Format] = {
  f.name: f
  for f in (
    Format(
      "hf_vit_mae",
      signs=(r"(vit\.)?embeddings\.patch_embeddings\.", r"decoder\."),
      student=(
        *prefixed(names.HF_VIT, "vit.", where=("decoder/mask_token",)),
        *names.HF_VIT,
        *names.HF_DECODER,
      ),
      objective="mae",
    ),
    Format(
      "hf_vit",
      signs=(r"(vit\.)?embeddings\.patch_embeddings\.",),
      student=(
        *prefixed(names.HF_VIT, "vit.", where=("classifier",)),
        *names.HF_VIT,
        Entry("classifier", "classifier", layouts.CLASSIFIER),
      ),
      pixels=_HALVES,
    ),
    Format(
      "hf_resnet",
      signs=(r"(resnet\.)?embedder\.embedder\.convolution\.",),
      student=(
        *prefixed(names.HF_RESNET, "resnet.", where=("classifier",)),
        *names.HF_RESNET,
        Entry("classifier.1", "classifier", layouts.CLASSIFIER),
      ),
    ),
    Format(
      "detectron2",
      signs=(r"stem\.conv1\.weight", r"res2\.0\.conv1\.weight"),
      student=names.DETECTRON2,
      wrapper="model",
    ),
    Format(
      "moco",
      signs=(r"encoder_q\.conv1\.weight",),
      **_twins(_MOCO, "encoder_q.", "encoder_k."),
      needs_teacher=True,
      carry=(
        Entry("queue", "queue", layouts.COLUMNS),
        Entry("queue_ptr", "oldest", layouts.POINTER),
      ),
      objective="moco_v2",
      **_STATE_DICT,
    ),
    Format(
      "moco_v3",
      signs=(r"base_encoder\.",),
      student=(
        *prefixed(_MOCO_V3, "base_encoder."),
        *mlp("predictor.", "predictor"),
      ),
      teacher=prefixed(_MOCO_V3, "momentum_encoder."),
      needs_teacher=True,
      objective="moco_v3",
      **_STATE_DICT,
      heads=MOCO_V3_HEADS,
    ),
    _mec("mec"),
    _mec("matrix_ssl"),
    Format(
      "simsiam",
      signs=(r"encoder\.conv1\.weight", r"encoder\.fc\.6\."),
      student=_SIMSIAM,
      objective="simsiam",
      **_STATE_DICT,
    ),
    Format(
      "spectral_contrastive",
      signs=(r"backbone\.conv1\.weight", r"encoder\.0\.conv1\.weight"),
      student=(
        *prefixed(names.RESNET, "backbone."),
        *(
          Entry(
            f"backbone.proj_resnet_layer{k + 1}.{i}",
            f"projector/{layer}_{k}",
            kind,
          )
          for k in range(3)
          for i, (layer, kind) in enumerate(
            (("linear", layouts.LINEAR), ("norm", layouts.BATCH_NORM))
          )
        ),
      ),
      objective="spectral_contrastive",
      wrapper="state_dict",
      twice=("backbone.", "encoder.0."),
    ),
    lightning.LIGHTLY_DINO,
    lightning.LIGHTLY,
    lightning.SOLO_LEARN,
    Format(
      "dino",
      signs=(
        r"((student|teacher):)?backbone\.",
        r"((student|teacher):)?head\.last_layer\.",
      ),
      student=prefixed(_DINO, "student:"),
      teacher=(*prefixed(_DINO, "teacher:"), *_DINO),
      needs_teacher=True,
      carry=(Entry("dino_loss:center", "centre", layouts.ROW),),
      evaluated="teacher",
      objective="dino",
      wrapper="student",
      prefix="module.",
    ),
    Format(
      "barlow_twins",
      signs=(r"backbone\.", r"projector\.", r"bn\.running_mean"),
      student=_WITH_PROJECTOR,
      fill=(
        ("bn.running_mean", "projector.6.weight", 0.0),
        ("bn.running_var", "projector.6.weight", 1.0),
      ),
      objective="barlow_twins",
      **_MODEL,
    ),
    Format(
      "vicreg",
      signs=(r"backbone\.", r"projector\."),
      student=_WITH_PROJECTOR,
      objective="vicreg",
      **_MODEL,
    ),
    Format(
      "deepcluster",
      signs=(r"conv1\.weight", r"prototypes\.prototypes0\."),
      student=_SWAV,
      carry=(
        Entry("prototypes.prototypes{k}", "centroids/{k}", layouts.CENTROIDS),
      ),
      objective="deepcluster",
      **_STATE_DICT,
      pixels=_SWAV_PIXELS,
    ),
    Format(
      "swav",
      signs=(r"conv1\.weight", r"(projection_head|prototypes)\."),
      student=(
        *_SWAV,
        Entry("prototypes", "prototypes", layouts.PROTOTYPES),
      ),
      objective="swav",
      **_STATE_DICT,
      pixels=_SWAV_PIXELS,
    ),
    _mae("mmae", (r"mask_token", r"decoder_pred\.weight", r"fc_norm\.")),
    _mae("mae", (r"mask_token", r"decoder_pred\.weight")),
    Format(
      "vit_timm",
      signs=(r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.qkv\."),
      student=(
        *names.VIT,
        Entry("head", "classifier", layouts.CLASSIFIER),
      ),
    ),
    Format(
      "resnet_torchvision",
      signs=(r"conv1\.weight", r"layer1\.0\.conv1\.weight"),
      student=(
        *names.RESNET,
        Entry("fc", "classifier", layouts.CLASSIFIER),
      ),
    ),
  )
}
