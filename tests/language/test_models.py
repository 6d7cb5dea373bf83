"""tunix's models: weights of Hugging Face, RoPE, devices, adapters."""

import json

import jax
import jax.numpy as jnp
from language import small
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("tunix", reason='needs the extra "language"')

from flax import nnx

from mmae_jax.language import (
  families,
  models,
  sharding,
  weights as weights_lib,
)
from mmae_jax.types import UsageError

TOKENS = np.array([[5, 9, 30, 100, 7, 0, 0], [8, 8, 41, 3, 200, 17, 99]])
VALID = np.array([[True] * 5 + [False] * 2, [True] * 7])


def mesh(fsdp=1, tp=1):
  return sharding.make_mesh(fsdp=fsdp, tp=tp)


def load(folder, mesh_=None, **keys):
  sizes = families.from_folder(str(folder))
  return weights_lib.load(str(folder), sizes, mesh_ or mesh(), **keys)


def llama(weights, tokens, *, theta):
  """A Llama in float64 NumPy, after its paper and Hugging Face's names.

  Args:
    weights: by Hugging Face's names.
    tokens: [length].
    theta: base of RoPE.
  Returns:
    Logits, [length, vocabulary].
  """
  w = {k: v.astype(np.float64) for k, v in weights.items()}
  sizes = small.LLAMA
  heads, groups = sizes["num_attention_heads"], sizes["num_key_value_heads"]
  dim = sizes["hidden_size"] // heads
  length = len(tokens)
  rate = theta ** (-np.arange(0, dim, 2) / dim)
  angle = np.concatenate([np.arange(length)[:, None] * rate] * 2, axis=1)

  def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale

  def rotated(x):  # [length, heads, dim]
    half = np.concatenate([-x[..., dim // 2 :], x[..., : dim // 2]], axis=-1)
    return x * np.cos(angle)[:, None] + half * np.sin(angle)[:, None]

  x = w["model.embed_tokens.weight"][tokens]
  for i in range(sizes["num_hidden_layers"]):
    layer = {
      k.removeprefix(f"model.layers.{i}.").removesuffix(".weight"): v
      for k, v in w.items()
      if k.startswith(f"model.layers.{i}.")
    }
    h = norm(x, layer["input_layernorm"])
    q, k, v = (
      (h @ layer[f"self_attn.{n}_proj"].T).reshape(length, -1, dim)
      for n in "qkv"
    )
    k, v = (np.repeat(y, heads // groups, axis=1) for y in (rotated(k), v))
    scores = np.einsum("thd,shd->hts", rotated(q), k) / np.sqrt(dim)
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    share = np.exp(scores - scores.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    mixed = np.einsum("hts,shd->thd", share, v).reshape(length, -1)
    x = x + mixed @ layer["self_attn.o_proj"].T
    h = norm(x, layer["post_attention_layernorm"])
    gate = h @ layer["mlp.gate_proj"].T
    gate = gate / (1 + np.exp(-gate))
    x = x + (gate * (h @ layer["mlp.up_proj"].T)) @ layer["mlp.down_proj"].T
  return norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


@pytest.mark.parametrize("theta", [10_000.0, 500.0])
def test_a_folders_llama_equals_numpy(tmp_path, theta):
  """Names, layouts, masks and the base of RoPE, which tunix 0.1.7 ignores."""
  weights = small.write_llama(tmp_path, rope_theta=theta)
  found = models.logits(load(tmp_path), jnp.asarray(TOKENS), jnp.asarray(VALID))
  for row, length in ((0, 5), (1, 7)):
    expected = llama(weights, TOKENS[row, :length], theta=theta)
    np.testing.assert_allclose(
      found[row, :length], expected, rtol=2e-4, atol=2e-4
    )


def test_vectors_of_input_and_output(tmp_path):
  weights = small.write_llama(tmp_path)
  model = load(tmp_path)
  for which, name in (
    ("input", "model.embed_tokens.weight"),
    ("output", "lm_head.weight"),
  ):
    found = models.embeddings(model, which)
    np.testing.assert_array_equal(found, weights[name])


def test_types(tmp_path):
  small.write_llama(tmp_path)
  model = load(tmp_path, dtype=jnp.bfloat16)
  assert {x.dtype for x in jax.tree.leaves(nnx.state(model))} == {
    jnp.dtype(jnp.bfloat16)
  }
  wide = models.cast(model, jnp.float32)
  assert models.embeddings(wide, "input").dtype == jnp.float32


def spoil(folder, how):
  path = folder / "model.safetensors"
  weights = load_file(path)
  if how == "missing":
    del weights["model.layers.1.mlp.up_proj.weight"]
  elif how == "shape":
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1]
  elif how == "mixed":
    weights["model.norm.weight"] = weights["model.norm.weight"].astype(
      np.float16
    )
  save_file(weights, path)
  if how == "torn":
    path.write_bytes(path.read_bytes()[:5])
  if how == "none":
    path.rename(folder / "model.bin")


@pytest.mark.parametrize(
  ("how", "message"),
  [
    ("missing", "do not fit its config.json"),
    ("shape", "do not fit its config.json"),
    ("mixed", "mixes F16, F32"),
    ("torn", "model.safetensors is not readable"),
    ("none", "has no *.safetensors; there are .bin files"),
  ],
)
def test_weights_that_do_not_fit(tmp_path, how, message):
  small.write_llama(tmp_path)
  spoil(tmp_path, how)
  with pytest.raises(UsageError) as error:
    load(tmp_path)
  assert f"--config.model.folder={tmp_path}" in str(error.value)
  assert message in str(error.value)


def sizes_of(family):
  gemma = family.startswith("gemma")
  config = small.config(
    **{
      "model.family": family,
      "model.layers": 2,
      "model.width": 32,
      "model.hidden": 32,
      "model.heads": 4,
      "model.kv_heads": 2,
      "model.tied": gemma,
    }
  )
  return families.from_config(config.model, 64)


@pytest.mark.parametrize("family", sorted(set(families.FAMILIES.values())))
def test_every_family_learns_in_all_its_parts(family):
  """tunix begins the feed-forward layers at zero, without any gradient."""
  model = models.create(jax.random.key(0), sizes_of(family), mesh())
  tokens = jnp.asarray(TOKENS % 64)

  def loss(model):
    return jnp.mean(models.logits(model, tokens, jnp.asarray(VALID)) ** 2)

  grads = nnx.grad(loss)(model)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    assert np.all(np.isfinite(grad)), name
    # The bias of a key shifts all scores of a query alike.
    assert np.any(grad) or "k_bias" in name, name


def test_weights_depend_on_the_key_and_not_on_the_mesh():
  one, again, other, split = (
    models.create(jax.random.key(seed), sizes_of("llama"), mesh(*shape))
    for seed, shape in ((0, (1, 1)), (0, (1, 1)), (1, (1, 1)), (0, (4, 2)))
  )
  a, b, c, d = (
    np.asarray(models.embeddings(m, "output"))
    for m in (one, again, other, split)
  )
  np.testing.assert_array_equal(a, b)
  np.testing.assert_allclose(a, d, rtol=1e-6)
  assert np.any(a != c)


def test_a_mesh_that_does_not_fit():
  with pytest.raises(UsageError, match=r"--config\.mesh\.tp=3: must divide 8"):
    mesh(1, 3)
  with pytest.raises(UsageError, match=r"--config\.mesh\.fsdp=9"):
    mesh(9, 1)
  with pytest.raises(
    UsageError, match=r"--config\.mesh\.tp=8: does not divide"
  ):
    models.create(jax.random.key(0), sizes_of("llama"), mesh(1, 8))


def test_adapters_alone_are_trained():
  from tunix.sft import utils

  lora = small.config(**{"lora.rank": 2}).lora
  model = models.create(jax.random.key(0), sizes_of("llama"), mesh())
  before = models.logits(model, jnp.asarray(TOKENS % 64), jnp.asarray(VALID))
  adapted = weights_lib.add_lora(jax.random.key(1), model, lora, mesh())
  after = models.logits(adapted, jnp.asarray(TOKENS % 64), jnp.asarray(VALID))
  assert utils.is_lora_enabled(adapted)
  np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)
  with pytest.raises(UsageError, match=r"--config\.lora\.modules=none"):
    lora.modules = "none"
    plain = models.create(jax.random.key(0), sizes_of("llama"), mesh())
    weights_lib.add_lora(jax.random.key(1), plain, lora, mesh())


def test_config_json_of_todays_library(tmp_path):
  """transformers writes the base of RoPE in another place."""
  small.write_llama(tmp_path)
  path = tmp_path / "config.json"
  read = json.loads(path.read_text())
  read["rope_parameters"] = {"rope_theta": read.pop("rope_theta")}
  path.write_text(json.dumps(read))
  assert load(tmp_path).config.rope_theta == 10_000.0
