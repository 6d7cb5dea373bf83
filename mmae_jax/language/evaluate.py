"""Greedy answers by tunix's sampler, and losses of held-out examples.

Imports tunix, so it is itself imported inside functions alone.
"""

from collections.abc import Sequence
import warnings

from flax import nnx
import jax
import numpy as np
from tunix.generate import sampler as sampler_lib, utils as tunix_utils

from mmae_jax.language import batches, loss as loss_lib, models
from mmae_jax.language.examples import Encoded
from mmae_jax.language.loss import MatrixTerm
from mmae_jax.language.template import Template


class Generator:
  """Answers questions; compiled once for all models of one shape."""

  def __init__(
    self,
    tokenizer,
    template: Template,
    questions: Sequence[str],
    *,
    batch_size: int,
    new_tokens: int,
  ):
    """Takes the questions.

    Args:
      tokenizer: of the models.
      template: the words around a question.
      questions: what is asked.
      batch_size: questions at a time; the last batch is filled up.
      new_tokens: that an answer may have.
    """
    self._tokenizer = tokenizer
    self._prompts = [template.question(q) for q in questions]
    self._batch_size = min(batch_size, len(questions))
    self._new_tokens = new_tokens
    longest = max(len(tokenizer.encode(p)) for p in self._prompts) + 1
    # The sampler takes every padding token for padding, also one that a model
    # has chosen itself.
    pad = tokenizer.pad_id()
    self._forbidden = None if pad == tokenizer.eos_id() else [pad]
    self._prompt_length = tunix_utils.next_power_of_2(longest)
    self._sampler = None

  def __call__(self, model) -> list[str]:
    """The model's greedy answer to every question, up to its end token.

    Padding is never chosen.
    """
    size = self._batch_size
    self._load(model)
    texts = []
    for first in range(0, len(self._prompts), size):
      prompts = self._prompts[first : first + size]
      filled = prompts + prompts[-1:] * (size - len(prompts))
      with warnings.catch_warnings():
        # Models without a cache of their own are still served.
        warnings.simplefilter("ignore", DeprecationWarning)
        out = self._sampler(
          filled,
          max_generation_steps=self._new_tokens,
          max_prompt_length=self._prompt_length,
          forbidden_tokens=self._forbidden,
        )
      texts += out.text[: len(prompts)]
    return texts

  def _load(self, model):
    if self._sampler is not None:
      self._sampler.transformer_state = nnx.variables(model)
      return
    config = model.config
    self._sampler = sampler_lib.Sampler(
      model,
      self._tokenizer,
      sampler_lib.CacheConfig(
        cache_size=self._prompt_length + self._new_tokens,
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
      ),
    )


class HeldOut:
  """Cross-entropy and matrix cross-entropy of examples; compiled once."""

  def __init__(self, data: Encoded, term: MatrixTerm, *, batch_size: int):
    """Takes the examples and how the matrix term is taken."""
    self._batches = batches.in_order(data, batch_size=batch_size)
    self._term = term
    self._sums = nnx.jit(self._one)

  def _one(self, model, tokens, valid, response):
    logits = models.logits(model, tokens, valid)
    vectors = models.embeddings(model, self._term.embeddings)
    key = jax.random.key(0)
    signs = loss_lib.smoothing_signs(key, logits.shape[-1], self._term)
    return loss_lib.response_sums(
      logits, tokens, response, vectors, self._term, signs=signs
    )

  def __call__(self, model) -> dict[str, float]:
    """Means over all response tokens, in nats."""
    parts = [jax.device_get(self._sums(model, **b)) for b in self._batches]
    sums = {k: np.sum([p[k] for p in parts], dtype=float) for k in parts[0]}
    _, means = loss_lib.from_sums(sums, self._term)
    return {f"held_out_{name}": float(value) for name, value in means.items()}
