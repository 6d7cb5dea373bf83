"""Which answer a solution gives: tables of cases."""

import pytest

from mmae_jax.language import answers


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("so 2 + 3 = 5. The answer is: 5", 5),
    ("The answer is: 1. But no. The answer is: 18", 18),
    ("The answer is: $1,234.", 1234),
    ("The answer is: 1,234,567 coins", 1234567),
    ("The answer is: -7", -7),
    ("The answer is: +7", 7),
    ("The answer is: 3.7", 4),
    ("The answer is: .6", 1),
    ("The answer is: 2.5", 2),
    ("The answer is: 3.5", 4),
    ("The answer is: 7/2 or so", 4),
    ("The answer is: 12,5", 12),
    ("The answer is: five", None),
    ("The answer is: 1/0", None),
    ("The answer is: ", None),
    ("The answer is 5", None),
    ("the answer is: 5", None),
    ("5", None),
    ("", None),
  ],
)
def test_gsm8k_answers(text, expected):
  assert answers.gsm8k_answer(text) == expected


@pytest.mark.parametrize(
  ("generated", "reference", "right"),
  [
    ("The answer is: 72", "48 + 24 = 72\n#### 72", True),
    ("The answer is: 72.0", "#### 72", True),
    ("The answer is: 1000", "#### 1,000", True),
    ("The answer is: 71", "#### 72", False),
    ("It is 72", "#### 72", False),
    ("The answer is: 72", "so it is. The answer is: 72", True),
    ("The answer is: 72", "no reference", False),
    ("no answer", "no reference", False),
  ],
)
def test_gsm8k_comparison(generated, reference, right):
  assert answers.gsm8k_correct(generated, reference) is right


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    (r"so $\boxed{5}$.", "5"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{1} and then \boxed{2}", "2"),
    (r"\fbox{x}", "x"),
    (r"\boxed 7$", "7"),
    (r"\boxed{never closed", None),
    ("none", None),
  ],
)
def test_boxed(text, expected):
  assert answers.boxed(text) == expected


@pytest.mark.parametrize(
  ("one", "other"),
  [
    (r"\dfrac{1}{2}", r"\frac{1}{2}"),
    (r"\tfrac12", r"\frac{1}{2}"),
    (r"\frac1{72}", r"\frac{1}{72}"),
    (r"\frac{a}2", r"\frac{a}{2}"),
    ("1/2", r"\frac{1}{2}"),
    ("0.5", r"\frac{1}{2}"),
    (".5", "0.5"),
    (r"\sqrt3", r"\sqrt{3}"),
    (r"\left( 1, 2 \right)", "(1,2)"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90"),
    (r"5\text{ cm}", "5"),
    (r"\$5", "5"),
    (r"50\%", "50"),
    ("50%", "50"),
    ("x = 3", "3"),
    ("$3$.", "3"),
    ("1\\!000", "1000"),
  ],
)
def test_equal_formulas(one, other):
  assert answers.normalised(one) == answers.normalised(other)


@pytest.mark.parametrize(
  ("one", "other"),
  [
    ("3", "4"),
    ("-3", "3"),
    (r"\frac{1}{2}", r"\frac{2}{1}"),
    (r"\sqrt{3}", "3"),
    (r"\text{A}", r"\text{B}"),
    ("a+b=3", "3"),
    (r"\leftarrow", "arrow"),
  ],
)
def test_different_formulas(one, other):
  assert answers.normalised(one) != answers.normalised(other)


@pytest.mark.parametrize(
  ("generated", "reference", "right"),
  [
    (r"The answer is: \frac{1}{2}", r"hence $\boxed{\dfrac12}$", True),
    (r"The answer is: $\boxed{3}$", r"\boxed{3}", True),
    (r"\boxed{3}", r"\boxed{3}", False),
    ("The answer is: 3", "no reference", False),
    ("The answer is: 3", "The answer is: 3", True),
  ],
)
def test_math_comparison(generated, reference, right):
  assert answers.math_correct(generated, reference) is right
