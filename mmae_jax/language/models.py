"""tunix's models: made, given new weights, and asked for logits.

Imports tunix, so it is itself imported inside functions alone.
"""

import contextlib
import dataclasses
import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from tunix.models.gemma import model as gemma
from tunix.models.llama3 import model as llama3
from tunix.models.qwen2 import model as qwen2
from tunix.models.qwen3 import model as qwen3
from tunix.sft import utils as tunix_utils

from mmae_jax.language import sharding
from mmae_jax.language.families import Sizes

# Matrices whose output is added to the residual stream.
_TO_RESIDUAL = ("o_proj", "down_proj", "attn_vec_einsum")


class Llama(llama3.Llama3):
  """tunix's Llama with the RoPE base of its config.

  tunix 0.1.7 reads `rope_theta` into the config and computes with 1,000,000
  always; Llama 2 and Llemma need 10,000.
  """

  def __call__(self, *args, **kwargs):
    with _rope_theta(self.config.rope_theta):
      return super().__call__(*args, **kwargs)


@contextlib.contextmanager
def _rope_theta(theta: float):
  """While a Llama is traced, its RoPE has this base."""
  as_it_is = llama3.apply_rope
  llama3.apply_rope = functools.partial(as_it_is, rope_theta=theta)
  try:
    yield
  finally:
    llama3.apply_rope = as_it_is


CLASSES = {
  "llama": Llama,
  "qwen2": qwen2.Qwen2,
  "qwen3": qwen3.Qwen3,
  "gemma": gemma.Gemma,
  "gemma2": gemma.Gemma,
}


def tunix_config(sizes: Sizes, *, remat: str = "none"):
  """The config of tunix's model class.

  Args:
    sizes: see there.
    remat: "none", "block" or "decoder": what is computed again in the backward
      pass instead of being kept.
  Returns:
    A ModelConfig of the family's module.
  """
  common = {
    "num_layers": sizes.layers,
    "embed_dim": sizes.width,
    "hidden_dim": sizes.hidden,
    "num_heads": sizes.heads,
    "num_kv_heads": sizes.kv_heads,
    "head_dim": sizes.head_dim,
  }
  if sizes.family.startswith("gemma"):
    return _gemma_config(sizes, common, remat)
  module = {"llama": llama3, "qwen2": qwen2, "qwen3": qwen3}[sizes.family]
  tied = "weight_tying" if sizes.family == "llama" else "use_tied_embedding"
  return module.ModelConfig(
    **common,
    vocab_size=sizes.vocabulary,
    rope_theta=sizes.rope_theta,
    norm_eps=sizes.norm_epsilon,
    remat_config=module.RematConfig[remat.upper()],
    **{tied: sizes.tied},
  )


def _gemma_config(sizes: Sizes, common: dict, remat: str):
  second = sizes.family == "gemma2"
  kinds = gemma.AttentionType
  turns = (kinds.LOCAL_SLIDING, kinds.GLOBAL) if second else (kinds.GLOBAL,)
  return gemma.ModelConfig(
    **common,
    num_embed=sizes.vocabulary,
    attn_logits_soft_cap=sizes.caps[0] or None,
    final_logit_softcap=sizes.caps[1] or None,
    sliding_window_size=sizes.window or None,
    attention_types=turns * (sizes.layers // len(turns)),
    use_post_attn_norm=second,
    use_post_ffw_norm=second,
    remat_config=gemma.RematConfig[remat.upper()],
  )


def create(key, sizes: Sizes, mesh: Mesh, *, remat="none", dtype=jnp.float32):
  """A model with random weights, born split over the mesh.

  tunix begins the feed-forward layers at zero, where their gradient is zero
  too and stays so: it is made for weights that are loaded. Ours: matrices and
  embeddings are normal with variance 1 / width, those that write to the
  residual stream divided by sqrt(2 layers) (after GPT-2); scales and biases are
  as tunix has them.

  Args:
    key: of the weights.
    sizes: see there.
    mesh: of `sharding.make_mesh`.
    remat: see `tunix_config`.
    dtype: of the parameters.
  Returns:
    An nnx.Module.
  Raises:
    UsageError: a parameter cannot be split over the mesh.
  """
  config = tunix_config(sizes, remat=remat)
  build = lambda: CLASSES[sizes.family](config, rngs=nnx.Rngs(params=0))
  sharding.check(nnx.eval_shape(build), mesh)

  @nnx.jit
  def make(key):
    model = build()
    state = nnx.state(model)

    def fill(path, leaf):
      name = jax.tree_util.keystr(path)
      if leaf.ndim < 2:
        return leaf.astype(dtype)
      scale = sizes.width**-0.5
      if any(part in name for part in _TO_RESIDUAL):
        scale /= math.sqrt(2 * sizes.layers)
      # A name decides, so that no leaf's weights depend on another's.
      own = jax.random.fold_in(key, _number(name))
      return scale * jax.random.normal(own, leaf.shape, dtype)

    filled = jax.tree_util.tree_map_with_path(fill, state)
    split = jax.lax.with_sharding_constraint(
      filled, nnx.get_partition_spec(filled)
    )
    nnx.update(model, split)
    return model

  with mesh:
    return make(key)


def _number(name: str) -> int:
  """A fixed 31-bit number for a name (FNV-1a)."""
  value = 2166136261
  for byte in name.encode():
    value = (value ^ byte) * 16777619 % 2**32
  return value >> 1


def embeddings(model, which: str) -> jax.Array:
  """The token vectors e_i of matrix cross-entropy.

  Args:
    model: an nnx.Module of `create` or `load`.
    which: "input", what is read, or "output", the head that makes the logits;
      the same where they are tied.
  Returns:
    [vocabulary, width].
  """
  if which == "output" and hasattr(model, "lm_head"):
    return model.lm_head.w[...].T
  return model.embedder.input_embedding[...]


def logits(model, tokens, valid) -> jax.Array:
  """Scores of the next token at every position.

  Args:
    model: an nnx.Module.
    tokens: int32 [batch, length].
    valid: bool [batch, length]; padding is attended by nothing.
  Returns:
    [batch, length, vocabulary], in the model's type.
  """
  positions = tunix_utils.build_positions_from_mask(valid)
  mask = tunix_utils.make_causal_attn_mask(valid)
  scores, _ = model(tokens, positions, None, mask)
  return scores


def cast(model, dtype):
  """A copy with its floating parameters in another type."""
  if dtype is None:
    return model
  graph, state = nnx.split(model)
  convert = lambda x: (
    x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
  )
  return nnx.merge(graph, jax.tree.map(convert, state))


def for_sampling(model, dtype):
  """A copy that tunix's sampler takes: in a type, with nothing recomputed.

  flax refuses the remat of a module inside the sampler's loop.

  Args:
    model: an nnx.Module.
    dtype: of its floating parameters.
  Returns:
    The copy; the model is left as it is.
  """
  copy = cast(model, dtype)
  for _, node in nnx.iter_graph(copy):
    config = getattr(node, "config", None)
    if hasattr(config, "remat_config"):
      none = type(config.remat_config).NONE
      node.config = dataclasses.replace(config, remat_config=none)
  return copy
