"""Sizes of a model, from a config or a Hugging Face config.json.

What tunix's families take from such a file, and what they cannot represent;
nothing here imports tunix.
"""

from collections.abc import Mapping
import dataclasses
import json

from etils import epath

from mmae_jax.types import UsageError

# model_type of a config.json -> family.
FAMILIES = {
  "llama": "llama",
  "qwen2": "qwen2",
  "qwen3": "qwen3",
  "gemma": "gemma",
  "gemma2": "gemma2",
}
# What tunix 0.1.7 has in its code instead of reading it.
_FIXED_THETA = {"qwen3": 1e6, "gemma": 1e4, "gemma2": 1e4}
_FIXED_EPSILON = {"gemma": 1e-6, "gemma2": 1e-6}


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What a decoder of any family is made of.

  Attributes:
    family: a value of `FAMILIES`.
    vocabulary: rows of the embedding.
    layers: blocks.
    width: of the residual stream.
    hidden: width inside the feed-forward layers.
    heads: of the queries.
    kv_heads: of keys and values.
    head_dim: width of a head.
    rope_theta: base of the rotary position code.
    norm_epsilon: of the RMS norms.
    tied: whether the output head is the embedding.
    window: of Gemma 2's sliding attention; 0 elsewhere.
    caps: of Gemma 2's attention and final logits; 0 elsewhere.
  """

  family: str
  vocabulary: int
  layers: int
  width: int
  hidden: int
  heads: int
  kv_heads: int
  head_dim: int
  rope_theta: float = 10_000.0
  norm_epsilon: float = 1e-5
  tied: bool = False
  window: int = 0
  caps: tuple[float, float] = (0.0, 0.0)


def from_config(model, vocabulary: int) -> Sizes:
  """The sizes of a model that is trained from scratch.

  Args:
    model: `config.model`.
    vocabulary: the tokenizer's tokens.
  Returns:
    The sizes.
  Raises:
    UsageError: a value that no model has.
  """
  if model.family not in FAMILIES.values():
    raise UsageError(
      f"--config.model.family={model.family}: must be one of"
      f" {', '.join(FAMILIES.values())}"
    )
  for key in ("layers", "width", "hidden", "heads", "kv_heads"):
    if model[key] < 1:
      raise UsageError(f"--config.model.{key}={model[key]}: must be at least 1")
  if model.heads % model.kv_heads:
    raise UsageError(
      f"--config.model.kv_heads={model.kv_heads}: must divide"
      f" --config.model.heads={model.heads}"
    )
  if model.width % model.heads or (model.width // model.heads) % 2:
    raise UsageError(
      f"--config.model.heads={model.heads}: must split"
      f" --config.model.width={model.width} into equal, even parts"
    )
  gemma = model.family.startswith("gemma")
  sizes = Sizes(
    family=model.family,
    vocabulary=vocabulary,
    layers=model.layers,
    width=model.width,
    hidden=model.hidden,
    heads=model.heads,
    kv_heads=model.kv_heads,
    head_dim=model.width // model.heads,
    rope_theta=_FIXED_THETA.get(model.family, model.rope_theta),
    norm_epsilon=_FIXED_EPSILON.get(model.family, 1e-5),
    tied=model.tied or gemma,
    window=4096 if model.family == "gemma2" else 0,
    caps=(50.0, 30.0) if model.family == "gemma2" else (0.0, 0.0),
  )
  if model.family == "gemma2" and model.layers % 2:
    raise UsageError(
      f"--config.model.layers={model.layers}: gemma2 needs an even number"
    )
  return sizes


def from_folder(folder: str) -> Sizes:
  """The sizes that a Hugging Face folder states.

  Args:
    folder: with config.json.
  Returns:
    The sizes.
  Raises:
    UsageError: the file is missing, malformed, of another family, or asks for
      what tunix's model does not do.
  """
  where = f"--config.model.folder={folder}"
  path = epath.Path(folder) / "config.json"
  if not path.is_file():
    raise UsageError(f"{where}: has no config.json")
  try:
    read = json.loads(path.read_text())
    family = FAMILIES.get(read.get("model_type"))
    if family is None:
      raise UsageError(
        f"{where}: model_type {read.get('model_type')!r} is not one of"
        f" {', '.join(FAMILIES)}"
      )
    sizes = _read(read, family)
  except KeyError as error:
    raise UsageError(f"{where}: config.json has no {error}") from error
  except (ValueError, AttributeError, TypeError, ArithmeticError) as error:
    if isinstance(error, UsageError):
      raise
    raise UsageError(f"{where}: config.json is malformed ({error})") from error
  _check_represented(read, sizes, where)
  return sizes


def _rope(read: Mapping) -> Mapping:
  """The settings of RoPE beside its base; transformers 5 nests them."""
  return read.get("rope_parameters") or read.get("rope_scaling") or {}


def _read(read: Mapping, family: str) -> Sizes:
  heads = read["num_attention_heads"]
  caps = (
    read.get("attn_logit_softcapping") or 0.0,
    read.get("final_logit_softcapping") or 0.0,
  )
  theta = read.get("rope_theta") or _rope(read).get("rope_theta", 10_000.0)
  return Sizes(
    family=family,
    vocabulary=read["vocab_size"],
    layers=read["num_hidden_layers"],
    width=read["hidden_size"],
    hidden=read["intermediate_size"],
    heads=heads,
    kv_heads=read.get("num_key_value_heads") or heads,
    head_dim=read.get("head_dim") or read["hidden_size"] // heads,
    rope_theta=float(theta),
    norm_epsilon=read.get("rms_norm_eps", 1e-6),
    tied=read.get("tie_word_embeddings", family.startswith("gemma")),
    window=(read.get("sliding_window") or 0) if family == "gemma2" else 0,
    caps=caps if family == "gemma2" else (0.0, 0.0),
  )


def _activation(read: Mapping) -> str:
  """Of the feed-forward layers; Gemma's files have two names for tanh GELU."""
  gemma = read["model_type"].startswith("gemma")
  usual = "gelu" if gemma else "silu"
  said = read.get("hidden_activation") or read.get("hidden_act", usual)
  return "gelu" if gemma and said == "gelu_pytorch_tanh" else said


def _check_represented(read: Mapping, sizes: Sizes, where: str) -> None:
  """Refuses what tunix's model would silently compute in another way."""
  family, rope = sizes.family, _rope(read)
  gemma = family.startswith("gemma")
  scaling = rope.get("rope_type", rope.get("type", "default"))
  for key, value, computed in (
    (
      "rope_theta",
      sizes.rope_theta,
      _FIXED_THETA.get(family, sizes.rope_theta),
    ),
    (
      "rms_norm_eps",
      sizes.norm_epsilon,
      _FIXED_EPSILON.get(family, sizes.norm_epsilon),
    ),
    ("rope_type", scaling, "default"),
    ("attention_bias", read.get("attention_bias", False), family == "qwen2"),
    ("mlp_bias", read.get("mlp_bias", False), False),
    ("hidden_act", _activation(read), "gelu" if gemma else "silu"),
    (
      "query_pre_attn_scalar",
      read.get("query_pre_attn_scalar", sizes.head_dim),
      sizes.head_dim,
    ),
  ):
    if key == "attention_bias" and family == "qwen2":
      continue  # Qwen 2 has it, whether its file says so or not
    if value != computed:
      raise UsageError(
        f"{where}: config.json has {key}={value}, and tunix's {family} computes"
        f" with {computed}"
      )
