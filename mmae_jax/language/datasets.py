"""What a run is trained on and asked: from a config to tokens and questions."""

from collections.abc import Callable
from typing import NamedTuple

from etils import epath

from mmae_jax.language import (
  answers,
  arithmetic,
  examples,
  metamath,
  template,
  tokens,
)
from mmae_jax.language.arithmetic import Problem
from mmae_jax.language.examples import Encoded
from mmae_jax.language.template import Template
from mmae_jax.train import workdir
from mmae_jax.types import UsageError

_GRADES = {
  "gsm8k": (answers.gsm8k_correct, answers.gsm8k_reference),
  "math": (answers.math_correct, answers.math_reference),
}


class Problems(NamedTuple):
  """Both splits as text.

  Attributes:
    train: questions with solutions.
    test: questions with reference solutions; may be empty.
    generated: whether they are generated arithmetic.
    correct: (generated text, reference solution) -> whether it is right.
  """

  train: list[Problem]
  test: list[Problem]
  generated: bool
  correct: Callable[[str, str], bool]


class Data(NamedTuple):
  """Both splits for a model.

  Attributes:
    tokenizer: of the model.
    template: the words around a question.
    train: the training examples.
    longer: numbers of training examples above the limit, from 0.
    problems: the text.
    held_out: the test problems as examples; None unless they are generated.
  """

  tokenizer: object
  template: Template
  train: Encoded
  longer: list[int]
  problems: Problems
  held_out: Encoded | None


def read_problems(data) -> Problems:
  """Generates or reads the questions.

  Args:
    data: `config.data`.
  Returns:
    Both splits.
  Raises:
    UsageError: a key out of range, a file that is missing or malformed, or
      solutions without an answer.
  """
  if data.task not in _GRADES:
    raise UsageError(
      f"--config.data.task={data.task}: must be {' or '.join(_GRADES)}"
    )
  correct, reference = _GRADES[data.task]
  if not data.train:
    if data.test:
      raise UsageError(
        f"--config.data.test={data.test}: needs --config.data.train=FILE.json"
        " too"
      )
    train, test = (
      arithmetic.problems(
        data.seed, data[f"{split}_examples"], test=at, largest=data.largest
      )
      for at, split in enumerate(("train", "test"))
    )
    return Problems(train, test, True, answers.gsm8k_correct)
  train = metamath.read(
    data.train,
    flag="--config.data.train",
    reference=answers.tail,
    limit=data.train_limit,
  )
  test = []
  if data.test:
    test = metamath.read(
      data.test,
      flag="--config.data.test",
      reference=reference,
      limit=data.test_limit,
    )
  return Problems(train, test, False, correct)


def open_tokenizer(config, train: list[Problem], folder):
  """The tokenizer that a config names.

  A trained one is kept in the run's folder and, from the first record of the
  run on, read from there again.

  Args:
    config: the run's.
    train: the training problems.
    folder: of the run.
  Returns:
    A tokenizer of `tokens`.
  Raises:
    UsageError: there is none, or it cannot be read.
  """
  kind = config.tokenizer.kind
  if kind == "bytes":
    return tokens.Bytes()
  if kind == "folder":
    own, beside = config.tokenizer.folder, config.model.folder
    if not own and not beside:
      raise UsageError(
        "--config.tokenizer.kind=folder: needs --config.tokenizer.folder=FOLDER"
        " or a --config.model.folder that has a tokenizer"
      )
    name = "--config.tokenizer.folder" if own else "--config.model.folder"
    return tokens.from_folder(own or beside, flag=name)
  if kind != "trained":
    raise UsageError(
      f"--config.tokenizer.kind={kind}: must be bytes, trained or folder"
    )
  least = 256 + 3
  if config.tokenizer.size < least:
    raise UsageError(
      f"--config.tokenizer.size={config.tokenizer.size}: must be at least"
      f" {least}, one code for a byte"
    )
  path = epath.Path(folder) / "tokenizer.json"
  if path.exists() and workdir.holds_work(folder):
    return _read_tokenizer(path)
  words = template.select(config.data.template)
  trained = tokens.train(
    (words.prompt(p.query) + words.separator + p.response for p in train),
    size=config.tokenizer.size,
  )
  partial = path.with_name(f"{path.name}.partial")
  partial.write_text(trained.to_json())
  partial.replace(path)
  return trained


def _read_tokenizer(path):
  try:
    return tokens.from_json(path.read_text())
  except Exception as error:  # tokenizers raises nothing narrower
    raise UsageError(
      f"{path}: the run's tokenizer cannot be read"
      f" ({str(error).splitlines()[0]}); choose another --workdir"
    ) from error


def encode(config, problems: Problems, tokenizer) -> Data:
  """Both splits as tokens.

  Args:
    config: the run's.
    problems: the text.
    tokenizer: of the model.
  Returns:
    The data of a run.
  Raises:
    UsageError: examples above the limit where that shall be refused.
  """
  data = config.data
  words = template.select(data.template)
  common = {"length": data.length, "too_long": data.too_long}
  train, longer = examples.encode(tokenizer, words, problems.train, **common)
  held_out = None
  if problems.generated:
    held_out, _ = examples.encode(tokenizer, words, problems.test, **common)
  return Data(tokenizer, words, train, longer, problems, held_out)
