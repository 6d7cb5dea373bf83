"""Which answer a generated solution gives, and whether it is the right one.

The rules of MetaMath's evaluation (shared by both benchmarks: the answer is the
text behind the last "The answer is: "; none means wrong). For GSM8K that is a
number, rounded to an integer; for MATH a formula, compared as normalised text.
How MATH's texts are normalised is written from recollection of the rules of the
MATH data set (Hendrycks et al. 2021, arXiv 2103.03874).
"""

from decimal import Decimal, DivisionByZero, InvalidOperation
import re

MARKER = "The answer is: "
_NUMBER = re.compile(
  r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:/\d+(?:\.\d+)?)?"
)


def tail(text: str) -> str | None:
  """What stands behind the last marker; None where there is none."""
  _, found, after = text.rpartition(MARKER)
  return after.strip() if found else None


def number(text: str) -> int | None:
  """The first number of a text, rounded to an integer (half to even).

  Args:
    text: may have thousands separators, a sign, decimals, a fraction.
  Returns:
    The integer; None where there is no digit, or a division by zero.
  """
  matches = (match[0] for match in _NUMBER.finditer(text))
  first = next((m for m in matches if re.search(r"\d", m)), None)
  if first is None:
    return None
  above, _, below = first.replace(",", "").partition("/")
  try:
    return int((Decimal(above) / Decimal(below or 1)).to_integral_value())
  except (DivisionByZero, InvalidOperation):
    return None


def gsm8k_answer(text: str) -> int | None:
  """The answer of a generated solution as GSM8K counts it."""
  after = tail(text)
  return None if after is None else number(after)


def gsm8k_reference(text: str) -> int | None:
  """The reference of a solution: behind GSM8K's `####`, or the marker."""
  before, found, after = text.rpartition("####")
  return number(after) if found else gsm8k_answer(before + after)


def gsm8k_correct(generated: str, reference: str) -> bool:
  """Whether a generated solution has the number of the reference solution."""
  expected = gsm8k_reference(reference)
  return expected is not None and gsm8k_answer(generated) == expected


def boxed(text: str) -> str | None:
  r"""What the last \boxed{} or \fbox{} of a solution holds; None without."""
  starts = list(re.finditer(r"\\(?:boxed|fbox)\s*(\{|[^\s{]\S*)", text))
  if not starts:
    return None
  last = starts[-1]
  if last[1] != "{":  # \boxed 5
    return last[1].rstrip("$.")
  depth = 1
  for at in range(last.end(), len(text)):
    depth += {"{": 1, "}": -1}.get(text[at], 0)
    if not depth:
      return text[last.end() : at]
  return None


def math_reference(text: str) -> str | None:
  r"""The reference of a solution: its \boxed{}, or what the marker names."""
  inside = boxed(text)
  return tail(text) if inside is None else inside


def math_correct(generated: str, reference: str) -> bool:
  """Whether a generated solution has the formula of the reference solution."""
  answer, expected = tail(generated), math_reference(reference)
  if answer is None or expected is None:
    return False
  inside = boxed(answer)
  return normalised(answer if inside is None else inside) == normalised(
    expected
  )


def normalised(text: str) -> str:
  """A formula in the form in which two of them are compared.

  Spaces, units, dollar, per cent and degree signs, sizes of brackets and the
  end of the sentence go; fractions and roots get their braces; a/b of integers
  and 0.5 become fractions; "x =" at the front goes.
  """
  text = text.replace("\n", "").strip().rstrip(".").strip("$ ")
  text = text.replace("\\!", "").replace("\\\\", "\\")
  text = re.sub(r"\\[td]frac", r"\\frac", text)
  text = re.sub(r"\\(?:left|right)(?![a-z])", "", text)
  text = re.sub(r"\^\{?\\circ\}?", "", text)
  text = re.sub(r"\\text\{ [^{}]*\}\s*$", "", text)
  text = text.replace("\\$", "").replace("\\%", "").replace("%", "")
  text = re.sub(r"(^|[ {])\.(?=\d)", r"\g<1>0.", text)
  front, equals, back = text.partition("=")
  if equals and len(front.strip()) <= 2:
    text = back
  text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text).replace(" ", "")
  text = _with_braces(text)
  text = "\\frac{1}{2}" if text == "0.5" else text
  return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)


def _with_braces(text: str) -> str:
  r"""\frac12, \frac1{2} and \frac{1}2 as \frac{1}{2}."""
  text = re.sub(r"\\frac([^{\\])", r"\\frac{\1}", text)
  return re.sub(r"(\\frac\{[^{}]*\})([^{\\])", r"\1{\2}", text)
