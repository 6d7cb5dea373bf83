"""Grade-school word problems with worked solutions, made by a seeded generator.

A problem is a kind of story, its numbers, and words. What is asked is decided
by kind and numbers alone, and no kind with its numbers in their order is in
both splits, in whatever words: they are disjoint by construction. The same
numbers under other operations, or swapped, may be in the other one. Every
solution ends in MetaMath's "The answer is: N".
"""

from collections.abc import Callable, Iterator
import hashlib
from typing import NamedTuple

import numpy as np

from mmae_jax.types import UsageError

NAMES = ("Ann", "Ben", "Eva", "Max", "Tom", "Zoe")
THINGS = ("apples", "books", "coins", "eggs", "pens", "shells")
TEST_SHARE = 0.2  # of all combinations of numbers
_DRAWS = 200  # for each problem that is asked for


class Problem(NamedTuple):
  """One question with its solution.

  Attributes:
    query: the question.
    response: the solution, "... The answer is: N".
    answer: of a generated one, N as a string.
  """

  query: str
  response: str
  answer: str = ""


class Kind(NamedTuple):
  """A story about the numbers (a, b, c).

  Attributes:
    text: the question, with {name}, {thing}, {a}, {b}, {c}.
    first: symbol and function of the first operation, on a and b.
    second: those of the second one, on its result and c.
  """

  text: str
  first: tuple[str, Callable[[int, int], int]]
  second: tuple[str, Callable[[int, int], int]]


_PLUS = ("+", lambda x, y: x + y)
_MINUS = ("-", lambda x, y: x - y)
_TIMES = ("*", lambda x, y: x * y)

KINDS = (
  Kind(
    "{name} has {a} {thing}, finds {b} more and gives {c} away. How many"
    " {thing} are left?",
    _PLUS,
    _MINUS,
  ),
  Kind(
    "{name} has {a} {thing}, finds {b} more and then buys {c}. How many"
    " {thing} are there now?",
    _PLUS,
    _PLUS,
  ),
  Kind(
    "{name} fills {a} bags with {b} {thing} each and has {c} besides. How many"
    " {thing} are there in all?",
    _TIMES,
    _PLUS,
  ),
  Kind(
    "{name} fills {a} bags with {b} {thing} each and loses {c}. How many"
    " {thing} are left?",
    _TIMES,
    _MINUS,
  ),
)


def is_test(kind: int, numbers: tuple[int, int, int]) -> bool:
  """Whether a kind with these numbers belongs to the test split.

  A fixed hash decides, whatever the seed, so that runs of several seeds are
  asked for what none of them has seen.
  """
  digest = hashlib.sha256(repr((kind, *numbers)).encode()).digest()
  return int.from_bytes(digest[:8], "big") < TEST_SHARE * 2**64


def write(
  kind: int, numbers: tuple[int, int, int], *, name: str, thing: str
) -> Problem | None:
  """The problem in words; None where the answer would be below zero."""
  story = KINDS[kind]
  a, b, c = numbers
  (sign, first), (last_sign, second) = story.first, story.second
  middle = first(a, b)
  answer = second(middle, c)
  if answer < 0:
    return None
  return Problem(
    story.text.format(name=name, thing=thing, a=a, b=b, c=c),
    f"{a} {sign} {b} = {middle}. {middle} {last_sign} {c} = {answer}."
    f" The answer is: {answer}",
    str(answer),
  )


def problems(
  seed: int, count: int, *, test: bool, largest: int = 9
) -> list[Problem]:
  """Different problems in a random order.

  Args:
    seed: of the generator; train and test may have the same.
    count: how many.
    test: from which of the two splits.
    largest: numbers are drawn from 2 to this.
  Returns:
    `count` problems, no two with the same question.
  Raises:
    UsageError: largest is below 3, or there are not so many problems.
  """
  if largest < 3:
    raise UsageError(f"--config.data.largest={largest}: must be at least 3")
  found: dict[str, Problem] = {}
  for problem in _draw(seed, count * _DRAWS, test=test, largest=largest):
    if len(found) == count:
      break
    found.setdefault(problem.query, problem)
  if len(found) < count:
    split = "test" if test else "train"
    raise UsageError(
      f"--config.data.{split}_examples={count}: numbers up to"
      f" --config.data.largest={largest} make only about {len(found)} problems"
    )
  return list(found.values())


def _draw(
  seed: int, draws: int, *, test: bool, largest: int
) -> Iterator[Problem]:
  rng = np.random.Generator(np.random.Philox(key=[seed, int(test)]))
  for _ in range(draws):
    kind = int(rng.integers(len(KINDS)))
    a, b, c = (int(n) for n in rng.integers(2, largest + 1, 3))
    name = NAMES[rng.integers(len(NAMES))]
    thing = THINGS[rng.integers(len(THINGS))]
    if is_test(kind, (a, b, c)) == test:
      problem = write(kind, (a, b, c), name=name, thing=thing)
      if problem is not None:
        yield problem
