"""Alarms: what a run's own numbers say about its going wrong.

A state machine without any effect of its own: it is fed the values of every
training step, of log intervals and of measurements of the feature, and answers
with what is new. An alarm comes once, and again only after a recovery. What is
done about it is `watch.py`.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
import numbers

import numpy as np

# Effective ranks, of the frozen encoder and of both branches, and entropies of
# the same spectrum of order 2; all of them uncentred: a constant feature has
# rank 1 and entropy 0.
_RANKS = ("effective_rank", "effective_rank_a", "effective_rank_b")
_ENTROPIES = ("sample_entropy_2_a", "sample_entropy_2_b")
_SPIKES = {"loss": "loss_spike", "grad_norm": "gradient_spike"}

# Before the grace period is over, young features of healthy runs have been
# seen at 1.04; under this, less than 1e-4 of their squares depends on the
# image.
_CONSTANT_RANK = 1.001
# An alarm recovers where its quantity is better than the threshold by this
# factor, so that one that hovers there is told once.
_MARGIN = 1.1
_FEWEST_STEPS = 32
# Steps may differ by less than this share of the median without being noise:
# the spread of a very even series is no scale for a spike.
_LEAST_SPREAD = 0.01

# By the names of the terms: `weight` alone may be that of the whole loss.
_SPREADING = (
  "more weight for the term that spreads the features, where the method has one"
  " (in --config.objective: weight of U-MAE and M-MAE, off_diagonal_weight of"
  " Barlow Twins, variance and covariance of VICReg)"
)
_COLLAPSE = (
  "the feature hardly depends on the image any more: a constant meets the loss,"
  " or steps were too large",
  f"a lower --config.optimizer.base_learning_rate; {_SPREADING}",
)
_SPIKE_ADVICE = (
  "--config.optimizer.clip_norm=1, a lower"
  " --config.optimizer.base_learning_rate, a longer"
  " --config.optimizer.warmup_epochs"
)
# (likely cause, what to try).
_TEXTS = {
  "collapse": _COLLAPSE,
  "dimensional_collapse": (
    "the features have fallen back into few directions",
    f"{_SPREADING}; a lower --config.optimizer.base_learning_rate",
  ),
  "dead_features": (
    "dimensions that are the same for every image: switched off by large steps"
    " or by weight decay",
    "a lower --config.optimizer.base_learning_rate or"
    " --config.optimizer.weight_decay",
  ),
  "loss_spike": (
    "a bad batch, or steps too large for this part of the run",
    _SPIKE_ADVICE,
  ),
  "gradient_spike": (
    "a bad batch, or the onset of divergence: the loss follows it",
    _SPIKE_ADVICE,
  ),
  "data_starvation": (
    "the devices wait for images that are read and cut too slowly",
    "more --config.data.workers or --config.data.threads; a"
    " --config.data.cache_gib that holds the split; faster storage",
  ),
}
# Slow data harms nothing but time, and each process has its own: never a stop.
HARMLESS = ("data_starvation",)
MEASURED = ("collapse", "dimensional_collapse", "dead_features")


@dataclasses.dataclass(frozen=True)
class Alarm:
  """One alarm.

  Attributes:
    alarm: its name, a key of the table of causes.
    step: of the value that raised it.
    quantity: what was measured.
    value, threshold: of the quantity.
    cause: the likely one.
    advice: what to try, by flags.
  """

  alarm: str
  step: int
  quantity: str
  value: float
  threshold: float
  cause: str
  advice: str

  def summary(self) -> str:
    """What and when, without cause and advice."""
    return (
      f"alarm {self.alarm} at step {self.step} ({self.quantity}"
      f" {self.value:.4g}, threshold {self.threshold:.4g})"
    )

  def __str__(self):
    return f"{self.summary()}: {self.cause}; try {self.advice}"


class Alarms:
  """Judges values as they come; see `config.alarms` for the thresholds."""

  def __init__(self, thresholds: Mapping, *, judged_from: int):
    """Starts without any history.

    Args:
      thresholds: `config.alarms`; a threshold of 0 switches its alarm off.
      judged_from: step from which features are judged: those of a fresh
        network are poor without being ill. Constant ones are told earlier.
    """
    self._thresholds = thresholds
    self._judged_from = judged_from
    self._active = collections.defaultdict(set)
    self._steps = {
      quantity: collections.deque(maxlen=thresholds["spike_steps"])
      for quantity in _SPIKES
    }
    self._spiked = {}
    self._starved = 0
    self._ranks = collections.defaultdict(list)
    self._low = collections.Counter()

  @property
  def active(self) -> set[str]:
    """Names of the alarms that have not recovered."""
    return {name for name, quantities in self._active.items() if quantities}

  def forget(self) -> None:
    """Takes no alarm as told; the history stays."""
    self._active.clear()

  def trained(self, rows: Iterable[tuple[int, Mapping]]) -> list[Alarm]:
    """Takes every single step, so that no spike is averaged away.

    A spike is a value that exceeds the median of the last
    `spike_steps` steps by so many robust standard deviations (1.4826 times
    the median absolute deviation). Steps without a gradient, in which nothing
    is learned yet, do not count.

    Args:
      rows: (step, {"loss", "grad_norm", ...}), finite, in order.
    Returns:
      New alarms.
    """
    raised = []
    for step, values in rows:
      if not values["grad_norm"]:
        continue
      for quantity, name in _SPIKES.items():
        value, seen = float(values[quantity]), self._steps[quantity]
        limit = _spike_limit(seen, self._thresholds[name])
        seen.append(value)
        finding = None
        if value > limit:
          self._spiked[name] = step
          finding = _alarm(name, step, quantity, value, limit)
        elif step - self._spiked.get(name, -math.inf) < seen.maxlen:
          continue  # not over yet
        raised += self._told(name, quantity, finding)
    return raised

  def waited(self, step: int, share: float) -> list[Alarm]:
    """Takes the share of a log interval spent waiting for data.

    Args:
      step: that ends the interval.
      share: in [0, 1].
    Returns:
      New alarms.
    """
    limit = self._thresholds["data_wait"]
    self._starved = self._starved + 1 if 0 < limit < share else 0
    starved = self._starved >= self._thresholds["patience"]
    name = "data_starvation"
    finding = _alarm(name, step, "data_wait", share, limit) if starved else None
    return self._told(name, "data_wait", finding)

  def measured(self, step: int, values: Mapping) -> list[Alarm]:
    """Takes an evaluation or a point of the information plane.

    Args:
      step: of the state that was measured.
      values: those of the names above that were measured, and
        "dead_features" of "dimensions"; others are not read, nor is what is
        not finite.
    Returns:
      New alarms.
    """
    if step == 0:  # nothing is learned yet
      return []
    values = {
      name: float(value)
      for name, value in values.items()
      if isinstance(value, numbers.Real) and math.isfinite(value)
    }
    raised = []
    for quantity in (*_RANKS, *_ENTROPIES):
      if quantity in values:
        finding = self._collapse(step, quantity, values[quantity])
        raised += self._told("collapse", quantity, finding)
    for quantity in _RANKS:
      if quantity in values:
        finding = self._dimensional_collapse(step, quantity, values[quantity])
        raised += self._told("dimensional_collapse", quantity, finding)
    if {"dead_features", "dimensions"} <= values.keys():
      finding = self._dead_features(step, values)
      raised += self._told("dead_features", "dead_features", finding)
    return raised

  # ----------------------------------------------------------------- findings

  def _collapse(self, step, quantity, value):
    """Under a floor, or under a share of what it was a moment ago."""
    own = self._thresholds
    judged = step >= self._judged_from
    if quantity in _ENTROPIES:
      limit = own["collapse_entropy"] if judged else 0.0
    else:
      floor = own["collapse_rank"]
      recent = self._ranks[quantity][-own["patience"] :]
      limit = floor if judged else min(floor, _CONSTANT_RANK)
      limit = max([limit, *(own["fall"] * rank for rank in recent)])
    if not self._under(value, limit, "collapse", quantity):
      return None
    return _alarm("collapse", step, quantity, value, limit)

  def _dimensional_collapse(self, step, quantity, value):
    """For long under a share of the best so far.

    No share of the dimension would do: healthy masked autoencoders stay at a
    rank of 2 to 7 of 64.
    """
    name = "dimensional_collapse"
    if step < self._judged_from:
      return None
    seen = self._ranks[quantity]
    seen.append(value)
    limit = self._thresholds["rank_share"] * max(seen)
    low = self._under(value, limit, name, quantity)
    self._low[quantity] = self._low[quantity] + 1 if low else 0
    long = self._low[quantity] >= self._thresholds["patience"]
    if not long or self._active["collapse"]:
      return None
    return _alarm(name, step, quantity, value, limit)

  def _dead_features(self, step, values):
    name = "dead_features"
    share = self._thresholds["dead_share"]
    limit, value = share * values["dimensions"], values[name]
    past = value > limit / (_MARGIN if self._active[name] else 1)
    if not share or not past or self._active["collapse"]:
      return None
    return _alarm(name, step, name, value, limit)

  def _under(self, value, limit, name, quantity):
    told = quantity in self._active[name]
    return value < limit * (_MARGIN if told else 1)

  def _told(self, name, quantity, finding):
    """[finding] where its name is new; None is a recovery of the quantity."""
    active = self._active[name]
    if finding is None:
      active.discard(quantity)
      return []
    first = not active
    active.add(quantity)
    return [finding] if first else []


def _alarm(name, step, quantity, value, threshold):
  return Alarm(name, step, quantity, value, threshold, *_TEXTS[name])


def _spike_limit(seen: Sequence[float], deviations: float) -> float:
  """What the next value may be; infinite while too little has been seen."""
  if not deviations or len(seen) < min(_FEWEST_STEPS, seen.maxlen):
    return math.inf
  values = np.asarray(seen)
  median = np.median(values)
  spread = 1.4826 * np.median(np.abs(values - median))
  return float(
    median + deviations * max(spread, _LEAST_SPREAD * abs(median), 1e-12)
  )
