"""Questions with solutions as tokens, with a mask of what is learned."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmae_jax.language.arithmetic import Problem
from mmae_jax.language.template import Template
from mmae_jax.types import UsageError

_MOST_LISTED = 8


class Encoded(NamedTuple):
  """Examples as arrays.

  Attributes:
    tokens: int32 [examples, length].
    valid: bool [examples, length]; False is padding.
    response: bool [examples, length]; True is learned: response and end.
  """

  tokens: np.ndarray
  valid: np.ndarray
  response: np.ndarray


def encode_example(
  tokenizer, template: Template, problem: Problem
) -> tuple[list[int], int]:
  """One example as tokens.

  Prompt and response are encoded as one text, as MetaMath does, so that codes
  may cross no more and no less of the border than in its training.

  Args:
    tokenizer: of `tokens`.
    template: see there.
    problem: the question and its solution.
  Returns:
    (tokens, first): `first` is the number of leading tokens that belong to the
    prompt alone.
  """
  prompt = template.prompt(problem.query)
  text = prompt + template.separator + problem.response
  begin = tokenizer.bos_id()
  front = [] if begin is None else [begin]
  alone, whole = tokenizer.encode(prompt), tokenizer.encode(text)
  pairs = zip(alone, whole, strict=False)
  common = next((i for i, (a, b) in enumerate(pairs) if a != b), len(alone))
  first = len(front) + min(common, len(whole))
  return [*front, *whole, tokenizer.eos_id()], first


def encode(
  tokenizer,
  template: Template,
  problems: Sequence[Problem],
  *,
  length: int,
  too_long: str = "refuse",
) -> tuple[Encoded, list[int]]:
  """All examples, padded to one length.

  Args:
    tokenizer: of `tokens`.
    template: see there.
    problems: the questions and solutions.
    length: the most tokens of an example.
    too_long: "refuse", "drop" or "cut" longer examples; "cut" loses the end of
      the response, as MetaMath's program does.
  Returns:
    (arrays, numbers of the examples that were longer, from 0).
  Raises:
    UsageError: an example is longer and shall be refused, or nothing is left
      to be learned.
  """
  rows = [encode_example(tokenizer, template, p) for p in problems]
  longer = [i for i, (ids, _) in enumerate(rows) if len(ids) > length]
  if longer and too_long == "refuse":
    listed = ", ".join(
      f"{i + 1} ({len(rows[i][0])} tokens)" for i in longer[:_MOST_LISTED]
    )
    more = len(longer) - _MOST_LISTED
    raise UsageError(
      f"--config.data.length={length}: {len(longer):,} of {len(rows):,}"
      f" examples are longer: {listed}"
      + (f", … ({more:,} more)" if more > 0 else "")
      + "; the longest has"
      f" {max(len(ids) for ids, _ in rows):,}; say a larger one, or"
      " --config.data.too_long=drop (or cut)"
    )
  if too_long == "drop":
    dropped = set(longer)
    rows = [row for i, row in enumerate(rows) if i not in dropped]
  tokens = np.full((len(rows), length), tokenizer.pad_id(), np.int32)
  valid = np.zeros(tokens.shape, bool)
  response = np.zeros(tokens.shape, bool)
  for at, (ids, first) in enumerate(rows):
    end = min(len(ids), length)
    tokens[at, :end] = ids[:end]
    valid[at, :end] = True
    response[at, first:end] = True
  # The first token is predicted by nothing.
  response[:, :1] = False
  if not response.any():
    raise UsageError(
      f"--config.data.length={length}: no token of any response fits"
    )
  return Encoded(tokens, valid, response), longer
