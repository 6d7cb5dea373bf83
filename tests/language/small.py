"""Small models, data and folders of Hugging Face's format for these tests."""

import json

import numpy as np
from safetensors.numpy import save_file

from mmae_jax import recipes
from mmae_jax.language import arithmetic

WORDS = ("<pad>", "<s>", "</s>", "<unk>")
LLAMA = {
  "model_type": "llama",
  "architectures": ["LlamaForCausalLM"],
  "vocab_size": 272,
  "hidden_size": 16,
  "intermediate_size": 24,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0,
  "tie_word_embeddings": False,
}


def config(arg=None, **keys):
  """configs/matrix_llm.py with the smallest model; keys as dotted names."""
  found = recipes.language("matrix_llm", arg)
  small = {
    "batch_size": 8,
    "data.length": 96,
    "data.train_examples": 32,
    "data.test_examples": 6,
    "tokenizer.size": 300,
    "model.layers": 1,
    "model.width": 16,
    "model.hidden": 16,
    "model.heads": 2,
    "model.kv_heads": 2,
    "evaluation.batch_size": 4,
    "evaluation.new_tokens": 4,
    "logging.log_every_steps": 1,
    "logging.tensorboard": False,
    "checkpoint.every_steps": 2,
    "mesh.fsdp": 1,
  }
  found.update_from_flattened_dict(small | keys)
  return found


def write_data(folder, count=12):
  """MetaMathQA's and GSM8K's files, of generated problems."""
  problems = arithmetic.problems(0, count, test=False)
  train, test = folder / "train.json", folder / "test.jsonl"
  train.write_text(
    json.dumps([{"query": p.query, "response": p.response} for p in problems])
  )
  lines = [
    {"question": p.query, "answer": f"It is so.\n#### {p.answer}"}
    for p in problems[:3]
  ]
  test.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
  return train, test


def write_llama(folder, **keys):
  """A folder with config.json, weights and a byte-level tokenizer.

  Returns:
    The weights by their names, float32.
  """
  from tokenizers import Tokenizer, decoders, models, pre_tokenizers

  folder.mkdir(parents=True, exist_ok=True)
  sizes = LLAMA | keys
  (folder / "config.json").write_text(json.dumps(sizes))
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  names = [*WORDS, *alphabet]
  names += [f"<{i}>" for i in range(sizes["vocab_size"] - len(names))]
  tokenizer = Tokenizer(
    models.BPE({name: i for i, name in enumerate(names)}, [])
  )
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.save(str(folder / "tokenizer.json"))
  (folder / "tokenizer_config.json").write_text(
    json.dumps(
      {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
      }
    )
  )
  weights = random_weights(sizes)
  save_file(weights, folder / "model.safetensors")
  return weights


def random_weights(sizes):
  """Weights of a Llama under Hugging Face's names."""
  rng = np.random.default_rng(0)
  width, hidden = sizes["hidden_size"], sizes["intermediate_size"]
  head = width // sizes["num_attention_heads"]
  keys = head * sizes["num_key_value_heads"]
  shapes = {"model.embed_tokens.weight": (sizes["vocab_size"], width)}
  for i in range(sizes["num_hidden_layers"]):
    layer = f"model.layers.{i}."
    shapes |= {
      f"{layer}self_attn.q_proj.weight": (width, width),
      f"{layer}self_attn.k_proj.weight": (keys, width),
      f"{layer}self_attn.v_proj.weight": (keys, width),
      f"{layer}self_attn.o_proj.weight": (width, width),
      f"{layer}mlp.gate_proj.weight": (hidden, width),
      f"{layer}mlp.up_proj.weight": (hidden, width),
      f"{layer}mlp.down_proj.weight": (width, hidden),
      f"{layer}input_layernorm.weight": (width,),
      f"{layer}post_attention_layernorm.weight": (width,),
    }
  shapes |= {
    "model.norm.weight": (width,),
    "lm_head.weight": (sizes["vocab_size"], width),
  }
  return {
    name: rng.normal(size=shape).astype(np.float32) * 0.3
    for name, shape in shapes.items()
  }
