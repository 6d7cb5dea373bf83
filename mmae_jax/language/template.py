"""The text around a question: what the model reads and what it learns to write.

The words of `METAMATH` are those of Alpaca's template without an input, as
MetaMath uses it. They are recollection, not read in its program; known from its
repository are the ending `### Response:` and the sentence that evaluation adds.
"""

from typing import NamedTuple

from mmae_jax.types import UsageError


class Template(NamedTuple):
  """Text before and after a question.

  Attributes:
    before: stands before the question.
    after: stands between the question and the response.
    evaluation: is added behind `after` when the model is asked, not in
      training.
    separator: the first character of every response in training.
  """

  before: str
  after: str
  evaluation: str = ""
  separator: str = ""

  def prompt(self, question: str) -> str:
    """The prompt of training, without any of the response."""
    return self.before + question + self.after

  def question(self, question: str) -> str:
    """The prompt of evaluation."""
    return self.prompt(question) + self.evaluation


METAMATH = Template(
  before=(
    "Below is an instruction that describes a task. Write a response that"
    " appropriately completes the request.\n\n### Instruction:\n"
  ),
  after="\n\n### Response:",
  evaluation=" Let's think step by step.",
)
# Ours, for the small models: the constant words of the other one would be half
# of what they read.
SHORT = Template(before="Q: ", after="\nA:", separator=" ")

TEMPLATES = {"metamath": METAMATH, "short": SHORT}


def select(name: str) -> Template:
  """The template that `--config.data.template` names.

  Args:
    name: "metamath" or "short".
  Returns:
    The template.
  Raises:
    UsageError: there is no such template.
  """
  if name not in TEMPLATES:
    raise UsageError(
      f"--config.data.template={name}: must be {' or '.join(TEMPLATES)}"
    )
  return TEMPLATES[name]
