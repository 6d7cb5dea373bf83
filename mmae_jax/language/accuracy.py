"""How many generated answers are right, with an interval."""

from collections.abc import Callable, Sequence
import json
import math
from typing import NamedTuple

from etils import epath

from mmae_jax.language.arithmetic import Problem

_NORMAL_95 = 1.959963984540054


class Accuracy(NamedTuple):
  """Exact-match accuracy with its counts.

  Attributes:
    right: answers that are right.
    asked: questions.
    low, high: the 95 % interval of Wilson.
  """

  right: float
  asked: float
  low: float
  high: float

  @property
  def share(self) -> float:
    return self.right / self.asked


def wilson(right: float, asked: float) -> Accuracy:
  """An accuracy with the score interval of Wilson at 95 %.

      (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

  Args:
    right: answers that are right; a mean over seeds need not be whole.
    asked: questions, at least 1.
  Returns:
    The accuracy; its interval is of the questions as a sample, not of seeds.
  """
  share, z2 = right / asked, _NORMAL_95**2
  centre = share + z2 / (2 * asked)
  half = _NORMAL_95 * math.sqrt(
    share * (1 - share) / asked + z2 / (4 * asked**2)
  )
  scale = 1 + z2 / asked
  low, high = (centre - half) / scale, (centre + half) / scale
  return Accuracy(right, asked, max(low, 0.0), min(high, 1.0))


def grade(
  texts: Sequence[str],
  problems: Sequence[Problem],
  correct: Callable[[str, str], bool],
  path,
) -> tuple[Accuracy, list[bool]]:
  """Counts the right answers and keeps all of them.

  Args:
    texts: what was generated.
    problems: the questions with their reference solutions.
    correct: (generated, reference) -> whether it is right.
    path: of the JSONL file; one object an answer.
  Returns:
    (accuracy, whether each is right).
  """
  right = [
    correct(text, p.response) for text, p in zip(texts, problems, strict=True)
  ]
  lines = [
    json.dumps(
      {
        "query": problem.query,
        "reference": problem.response,
        "generated": text,
        "right": ok,
      }
    )
    for text, problem, ok in zip(texts, problems, right, strict=True)
  ]
  epath.Path(path).write_text("\n".join(lines) + "\n")
  return wilson(sum(right), len(right)), right
