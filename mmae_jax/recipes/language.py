"""Fine-tuning of language models: shared keys and the arguments of its config.

These configs are run by launch/finetune_language.py, and share no key with
those of images but a name and a few sections.
"""

from ml_collections import ConfigDict

from mmae_jax.types import UsageError

LANGUAGE = ("gsm8k_llemma_7b",)


def language(name: str, arg: str | None) -> ConfigDict:
  """The config of a language model's fine-tuning.

  Args:
    name: of the config file.
    arg: None, a small Llama on generated arithmetic; or `gsm8k_llemma_7b`.
  Returns:
    A ConfigDict.
  Raises:
    UsageError: there is no such argument.
  """
  if arg not in (None, *LANGUAGE):
    raise UsageError(
      f"--config=configs/{name}.py:{arg}: no such argument; there are none, and"
      f" {', '.join(LANGUAGE)}"
    )
  config = _arithmetic(name)
  return config if arg is None else _gsm8k_llemma_7b(config)


def _arithmetic(name: str) -> ConfigDict:
  c = ConfigDict()
  c.name = name
  c.batch_size = 64
  c.microbatches = 1
  c.epochs = 1.0

  c.data = ConfigDict()
  c.data.train = ""  # a JSON file; empty: generated arithmetic
  c.data.test = ""
  c.data.task = "gsm8k"  # or "math": how an answer is read and compared
  c.data.template = "short"  # or "metamath"
  c.data.length = 56  # tokens of an example
  c.data.too_long = "refuse"  # or "drop", "cut": longer examples
  c.data.train_limit = 0  # only so many of a file; 0 is all
  c.data.test_limit = 0
  c.data.seed = 0  # of the generated problems
  c.data.train_examples = 25_600
  c.data.test_examples = 500
  c.data.largest = 12  # number in a generated problem

  c.tokenizer = ConfigDict()
  c.tokenizer.kind = "trained"  # or "bytes", "folder"
  c.tokenizer.size = 512  # most codes of a trained one
  c.tokenizer.folder = ""  # empty: model.folder

  c.model = ConfigDict()
  c.model.folder = ""  # of Hugging Face; empty: from scratch, by the next keys
  c.model.family = "llama"  # or "qwen2", "qwen3", "gemma", "gemma2"
  c.model.layers = 2
  c.model.width = 64
  c.model.hidden = 192
  c.model.heads = 4
  c.model.kv_heads = 4
  c.model.rope_theta = 10_000.0
  c.model.tied = False  # whether the head is the embedding
  c.model.padded_vocabulary = False  # embedding rows without a token
  c.model.remat = "none"  # or "block", "decoder"
  c.model.dtype = "float32"  # of the parameters
  c.model.compute_dtype = "float32"  # of the forward and backward pass

  c.lora = ConfigDict()
  c.lora.rank = 0  # 0: all parameters are trained
  c.lora.alpha = 16.0
  c.lora.modules = (
    ".*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    "|q_einsum|kv_einsum|qkv_einsum|attn_vec_einsum)"  # Gemma's attention
  )

  # Of the loss; what is unknown of the paper is in mmae_jax/language/loss.py.
  c.loss = ConfigDict()
  c.loss.weights = (0.0, 1.0)  # one run each, from the same beginning
  c.loss.form = "token"  # or "relation"
  c.loss.embeddings = "input"  # or "output"
  c.loss.detached = True
  c.loss.unit_norm = True
  c.loss.ridge = 1.0
  c.loss.order = 4
  c.loss.method = "taylor"  # or "lanczos"
  c.loss.temperature = 1.0
  c.loss.smoothing = 0.0
  c.loss.smoothing_probes = 0  # 0: exact
  c.loss.plus_trace = True
  c.loss.chunk = 0  # tokens at a time; 0: chosen so that memory is bounded

  c.optimizer = ConfigDict()
  c.optimizer.learning_rate = 5e-3
  c.optimizer.warmup = 0.03  # share of the run
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.999
  c.optimizer.eps = 1e-8
  c.optimizer.weight_decay = 0.0
  c.optimizer.clip_norm = 1.0  # 0 is off

  c.evaluation = ConfigDict()
  c.evaluation.enabled = True
  c.evaluation.batch_size = 250
  c.evaluation.new_tokens = 40  # that an answer may have

  c.logging = ConfigDict({"log_every_steps": 20, "tensorboard": True})
  c.checkpoint = ConfigDict({"every_steps": 200, "keep": 2})
  c.mesh = ConfigDict({"fsdp": -1, "tp": 1})
  return c


def _gsm8k_llemma_7b(c: ConfigDict) -> ConfigDict:
  """MetaMath's recipe, with the matrix term."""
  c.batch_size = 128
  c.epochs = 3.0
  c.data.template = "metamath"
  c.data.length = 512
  c.data.too_long = "cut"
  c.tokenizer.kind = "folder"
  c.model.family = ""  # config.json says it
  c.model.remat = "decoder"
  c.model.compute_dtype = "bfloat16"
  c.loss.weights = (1.0,)
  c.optimizer.learning_rate = 2e-5
  c.optimizer.clip_norm = 1.0
  c.evaluation.batch_size = 64
  c.evaluation.new_tokens = 512
  c.logging.log_every_steps = 10
  c.checkpoint.every_steps = 500
  return c
