"""Counts of right answers, and their interval."""

import json

import numpy as np
import pytest

from mmae_jax.language import accuracy as accuracy_lib, answers, arithmetic


def test_grades_are_counted_and_kept(tmp_path):
  problems = arithmetic.problems(0, 4, test=True)
  texts = [p.response for p in problems[:3]] + ["no idea"]
  accuracy, right = accuracy_lib.grade(
    texts, problems, answers.gsm8k_correct, tmp_path / "g.jsonl"
  )
  assert right == [True, True, True, False]
  assert (accuracy.right, accuracy.asked, accuracy.share) == (3, 4, 0.75)
  lines = (tmp_path / "g.jsonl").read_text().splitlines()
  last = json.loads(lines[3])
  assert last["generated"] == "no idea" and last["right"] is False
  assert last["query"] == problems[3].query


@pytest.mark.parametrize(
  ("right", "asked", "low", "high"),
  [
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
  ],
)
def test_the_interval_of_wilson(right, asked, low, high):
  found = accuracy_lib.wilson(right, asked)
  np.testing.assert_allclose([found.low, found.high], [low, high], atol=6e-5)
