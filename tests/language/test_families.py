"""What a config.json may say."""

import json

from language import small
import pytest

from mmae_jax.language import families
from mmae_jax.types import UsageError

LLEMMA_7B = {
  "model_type": "llama",
  "vocab_size": 32016,
  "hidden_size": 4096,
  "intermediate_size": 11008,
  "num_hidden_layers": 32,
  "num_attention_heads": 32,
  "num_key_value_heads": 32,
  "rms_norm_eps": 1e-05,
  "rope_theta": 10000.0,
}


def write(folder, sizes):
  (folder / "config.json").write_text(
    sizes if isinstance(sizes, str) else json.dumps(sizes)
  )
  return str(folder)


def test_a_model_of_llemmas_shape(tmp_path):
  """Sizes as of Llama 2 7B with Code Llama's vocabulary."""
  sizes = families.from_folder(write(tmp_path, LLEMMA_7B))
  assert sizes == families.Sizes(
    *("llama", 32016, 32, 4096, 11008, 32, 32, 128),
    rope_theta=10_000.0,
    norm_epsilon=1e-5,
    tied=False,
  )


def test_where_libraries_of_today_write_the_base(tmp_path):
  nested = {k: v for k, v in LLEMMA_7B.items() if k != "rope_theta"}
  nested["rope_parameters"] = {"rope_theta": 5e5, "rope_type": "default"}
  assert families.from_folder(write(tmp_path, nested)).rope_theta == 5e5


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"model_type": "gpt2"}, "model_type 'gpt2' is not one of llama"),
    ({"rope_scaling": {"rope_type": "llama3"}}, "rope_type=llama3"),
    ({"attention_bias": True}, "attention_bias=True"),
    ({"model_type": "qwen3"}, "rope_theta=10000.0, and tunix's qwen3"),
    ({"model_type": "gemma"}, "rms_norm_eps=1e-05, and tunix's gemma"),
    ({"hidden_act": "gelu"}, "hidden_act=gelu, and tunix's llama"),
    ({"query_pre_attn_scalar": 144}, "query_pre_attn_scalar=144"),
    ({"num_attention_heads": 0}, "config.json is malformed"),
    ("{", "config.json is malformed"),
    ("[]", "config.json is malformed"),
    ({"vocab_size": None}, "config.json has no 'vocab_size'"),
  ],
)
def test_what_tunix_would_compute_in_another_way(tmp_path, changed, message):
  sizes = changed
  if isinstance(changed, dict):
    sizes = {k: v for k, v in (LLEMMA_7B | changed).items() if v is not None}
  with pytest.raises(UsageError) as error:
    families.from_folder(write(tmp_path, sizes))
  assert message in str(error.value)
  assert "--config.model.folder=" in str(error.value)


def test_no_config_json(tmp_path):
  with pytest.raises(UsageError, match=r"has no config\.json"):
    families.from_folder(str(tmp_path))


@pytest.mark.parametrize(
  ("keys", "message"),
  [
    ({"model.family": "bert"}, "--config.model.family=bert: must be one of"),
    ({"model.layers": 0}, "--config.model.layers=0: must be at least 1"),
    ({"model.kv_heads": 3}, "--config.model.kv_heads=3: must divide"),
    ({"model.width": 18}, "--config.model.heads=2: must split"),
    ({"model.family": "gemma2"}, "--config.model.layers=1: gemma2 needs"),
  ],
)
def test_sizes_that_no_model_has(keys, message):
  with pytest.raises(UsageError) as error:
    families.from_config(small.config(**keys).model, 259)
  assert message in str(error.value)
