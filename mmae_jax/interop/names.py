"""Tables of names: what a layer is called elsewhere, and what it is here.

An `Entry` names one layer on both sides. `{i}` stands for a number and is the
same on both. Tables are data; `catalogue.py` puts them together.
"""

import functools
import re
from typing import NamedTuple

from mmae_jax.interop import layouts

_MOST_LINEAR = 5


class Entry(NamedTuple):
  """A layer.

  Attributes:
    foreign: its name there, without `.weight` and the like.
    ours: its path here, without `/kernel` and the like.
    kind: of `layouts`.
    where: modules of our network that have to be there for this name to be
      written, or "!" and one that must not; reading does not ask.
    beside: a tensor that has to be in the file for this name to be read so, or
      "!" and one that must not; "" does not ask.
  """

  foreign: str
  ours: str
  kind: layouts.Kind
  where: tuple[str, ...] = ()
  beside: str = ""


Table = tuple[Entry, ...]


@functools.cache
def pattern(template: str) -> re.Pattern:
  """What a template matches, its numbers as named groups."""
  parts = re.split(r"\{(\w+)\}", template)
  texts = [
    f"(?P<{part}>\\d+)" if i % 2 else re.escape(part)
    for i, part in enumerate(parts)
  ]
  return re.compile("".join(texts))


def translated(template: str, other: str, name: str) -> str | None:
  """`name`, which one template matches, by the other; None if it does not."""
  found = pattern(template).fullmatch(name)
  return other.format(**found.groupdict()) if found else None


def prefixed(
  table: Table, foreign: str, *, where: tuple[str, ...] = ()
) -> Table:
  """The table with a prefix before all names there, and further conditions."""

  def beside(name):
    bare = name.lstrip("!")
    return name and name[: len(name) - len(bare)] + foreign + bare

  return tuple(
    e._replace(
      foreign=foreign + e.foreign,
      where=e.where + where,
      beside=beside(e.beside),
    )
    for e in table
  )


# --- Vision transformers -----------------------------------------------------
def _block(foreign: str, ours: str) -> Table:
  """A block with timm's names."""
  return (
    Entry(f"{foreign}norm1", f"{ours}norm1", layouts.LAYER_NORM),
    Entry(f"{foreign}attn.qkv", f"{ours}attn/qkv", layouts.LINEAR),
    Entry(f"{foreign}attn.proj", f"{ours}attn/proj", layouts.LINEAR),
    Entry(f"{foreign}norm2", f"{ours}norm2", layouts.LAYER_NORM),
    Entry(f"{foreign}mlp.fc1", f"{ours}mlp/fc1", layouts.LINEAR),
    Entry(f"{foreign}mlp.fc2", f"{ours}mlp/fc2", layouts.LINEAR),
  )


def _hf_block(foreign: str, ours: str) -> Table:
  """A block with the names of transformers 4 (the classic dialect)."""
  attention = f"{foreign}attention.attention."
  qkv = f"{ours}attn/qkv"
  return (
    Entry(f"{foreign}layernorm_before", f"{ours}norm1", layouts.LAYER_NORM),
    Entry(f"{attention}query", qkv, layouts.QUERY),
    Entry(f"{attention}key", qkv, layouts.KEY),
    Entry(f"{attention}value", qkv, layouts.VALUE),
    Entry(
      f"{foreign}attention.output.dense", f"{ours}attn/proj", layouts.LINEAR
    ),
    Entry(f"{foreign}layernorm_after", f"{ours}norm2", layouts.LAYER_NORM),
    Entry(f"{foreign}intermediate.dense", f"{ours}mlp/fc1", layouts.LINEAR),
    Entry(f"{foreign}output.dense", f"{ours}mlp/fc2", layouts.LINEAR),
  )


VIT: Table = (
  Entry("cls_token", "encoder/cls_token", layouts.ARRAY),
  Entry("pos_embed", "encoder/pos_embed", layouts.ARRAY),
  Entry("patch_embed.proj", "encoder/patch_embed", layouts.PATCH),
  *_block("blocks.{i}.", "encoder/block_{i}/"),
  Entry("norm", "encoder/norm", layouts.LAYER_NORM),
)

# In the order of MAE's files, behind the encoder's.
MAE_DECODER: Table = (
  Entry("mask_token", "decoder/mask_token", layouts.ARRAY),
  Entry("decoder_pos_embed", "decoder/pos_embed", layouts.ARRAY),
  Entry("decoder_embed", "decoder/embed", layouts.LINEAR),
  *_block("decoder_blocks.{i}.", "decoder/block_{i}/"),
  Entry("decoder_norm", "decoder/norm", layouts.LAYER_NORM),
  Entry("decoder_pred", "decoder/pred", layouts.LINEAR),
)

# lightly's, after 1.5.26.
LIGHTLY_DECODER: Table = (
  Entry("decoder_embed", "decoder/embed", layouts.LINEAR),
  Entry("decoder.mask_token", "decoder/mask_token", layouts.ARRAY),
  Entry("decoder.pos_embed", "decoder/pos_embed", layouts.ARRAY),
  *_block("decoder.blocks.{i}.", "decoder/block_{i}/"),
  Entry("decoder.norm", "decoder/norm", layouts.LAYER_NORM),
  Entry("prediction_head", "decoder/pred", layouts.LINEAR),
)

HF_VIT: Table = (
  Entry("embeddings.cls_token", "encoder/cls_token", layouts.ARRAY),
  Entry("embeddings.position_embeddings", "encoder/pos_embed", layouts.ARRAY),
  Entry(
    "embeddings.patch_embeddings.projection",
    "encoder/patch_embed",
    layouts.PATCH,
  ),
  *_hf_block("encoder.layer.{i}.", "encoder/block_{i}/"),
  Entry("layernorm", "encoder/norm", layouts.LAYER_NORM),
)

HF_DECODER: Table = (
  Entry("decoder.mask_token", "decoder/mask_token", layouts.ARRAY),
  Entry("decoder.decoder_pos_embed", "decoder/pos_embed", layouts.ARRAY),
  Entry("decoder.decoder_embed", "decoder/embed", layouts.LINEAR),
  *_hf_block("decoder.decoder_layers.{i}.", "decoder/block_{i}/"),
  Entry("decoder.decoder_norm", "decoder/norm", layouts.LAYER_NORM),
  Entry("decoder.decoder_pred", "decoder/pred", layouts.LINEAR),
)

# The two other dialects of transformers, as replacements to the classic one.
HF_DIALECTS = (
  (r"(^|\.)decoder_encoder\.layer\.", r"\1decoder_layers."),
  (r"^((?:vit\.)?)layers\.(\d+)\.", r"\1encoder.layer.\2."),
  (r"\.attention\.q_proj\.", ".attention.attention.query."),
  (r"\.attention\.k_proj\.", ".attention.attention.key."),
  (r"\.attention\.v_proj\.", ".attention.attention.value."),
  (r"\.attention\.o_proj\.", ".attention.output.dense."),
  (r"\.mlp\.fc1\.", ".intermediate.dense."),
  (r"\.mlp\.fc2\.", ".output.dense."),
)


# --- Residual networks -------------------------------------------------------
def _resnet(
  stem: tuple[str, str],
  block: str,
  branch: tuple[str, str],
  shortcut: tuple[str, str],
  *,
  norm: layouts.Kind = layouts.BATCH_NORM,
  first_stage: int = 1,
  first_layer: int = 1,
) -> Table:
  """A ResNet; each pair names a convolution and its norm.

  Args:
    stem: of the first layer.
    block: before the names in it, "#" is the stage.
    branch: in a block, "#" is the layer.
    shortcut: in a block.
    norm: kind of the norms.
    first_stage, first_layer: numbers that they begin with.
  """
  pairs = [(stem, ("encoder/conv1", "encoder/bn1"))]
  for s in range(4):
    before = block.replace("#", str(s + first_stage))
    ours = f"encoder/layer{s + 1}_{{b}}/"
    for c in range(3):
      names = [n.replace("#", str(c + first_layer)) for n in branch]
      pairs.append(
        (
          [before + name for name in names],
          (f"{ours}conv{c + 1}", f"{ours}bn{c + 1}"),
        )
      )
    pairs.append(
      (
        [before + name for name in shortcut],
        (f"{ours}downsample_0", f"{ours}downsample_1"),
      )
    )
  return tuple(
    Entry(*names, kind)
    for theirs, ours in pairs
    for *names, kind in zip(theirs, ours, (layouts.CONV, norm), strict=True)
  )


# torchvision's, and so that of nearly all programs.
RESNET: Table = _resnet(
  ("conv1", "bn1"),
  "layer#.{b}.",
  ("conv#", "bn#"),
  ("downsample.0", "downsample.1"),
)
# lightly's examples, where it is a Sequential.
NUMBERED_RESNET: Table = _resnet(
  ("0", "1"),
  "#.{b}.",
  ("conv#", "bn#"),
  ("downsample.0", "downsample.1"),
  first_stage=4,
)
HF_RESNET: Table = _resnet(
  ("embedder.embedder.convolution", "embedder.embedder.normalization"),
  "encoder.stages.#.layers.{b}.",
  ("layer.#.convolution", "layer.#.normalization"),
  ("shortcut.convolution", "shortcut.normalization"),
  first_stage=0,
  first_layer=0,
)


def backbone(prefix: str) -> Table:
  """A ViT or a ResNet behind a prefix."""
  return prefixed((*VIT, *RESNET), prefix)


# Norms are parts of the convolutions, without a count of batches.
DETECTRON2: Table = _resnet(
  ("stem.conv1", "stem.conv1.norm"),
  "res#.{b}.",
  ("conv#", "conv#.norm"),
  ("shortcut", "shortcut.norm"),
  norm=layouts.BATCH_NORM[:-1],
  first_stage=2,
)


# --- Heads -------------------------------------------------------------------
def mlp(
  foreign: str,
  ours: str,
  *,
  frozen_bias: int | None = None,
  where: tuple[str, ...] = (),
) -> Table:
  """A head that is a torch Sequential.

      with BatchNorm:     0 linear, 1 norm, 2 ReLU, 3 linear, 4 norm, ...
      without ("plain"):  0 linear, 1 ReLU, 2 linear, 3 ReLU, 4 linear

  Args:
    foreign: its name there, with the dot.
    ours: "projector" or "predictor".
    frozen_bias: number of the linear layer whose bias we do not have.
    where: of all entries, see `Entry`.
  Returns:
    Entries for up to five linear layers.
  """
  first_norm = f"{ours}/norm_0"
  statistics = f"{foreign}1.running_mean"
  entries = [Entry(f"{foreign}0", f"{ours}/linear_0", layouts.LINEAR, where)]
  for k in range(_MOST_LINEAR):
    kind = layouts.LINEAR_FROZEN_BIAS if k == frozen_bias else layouts.LINEAR
    linear, norm = f"{ours}/linear_{k}", f"{ours}/norm_{k}"
    at = f"{foreign}{3 * k + 1}"
    entries.append(Entry(at, norm, layouts.BATCH_NORM, where))
    if k:
      normed, plain = (*where, first_norm), (*where, f"!{first_norm}")
      entries += [
        Entry(f"{foreign}{3 * k}", linear, kind, normed, statistics),
        Entry(f"{foreign}{2 * k}", linear, kind, plain, f"!{statistics}"),
      ]
  return tuple(entries)


def weight_norm(foreign: str) -> Table:
  """DINO's last layer, also with the names of torch's parametrizations."""
  new = f"{foreign}.parametrizations.weight"
  return (
    Entry(foreign, "prototypes", layouts.WEIGHT_NORM),
    Entry(new, "prototypes", layouts.PARAMETRIZED),
  )
