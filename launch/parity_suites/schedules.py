"""Schedules, moving averages and clipping, for launch/parity.py.

Part of the suite `optimizers`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax import config as config_lib
from mmae_jax.objectives import parts
from mmae_jax.train import clipping, optimizer as optimizer_lib
from mmae_jax.types import RunInfo
from parity_suites.networks import precision
from parity_suites.rows import OURS, PRECISIONS, compared, tree_errors

SUITE = "optimizers"
# float64 to rounding; float32 at every step relative to the rate itself, also
# at the end, where a cosine cancels.
_TOLERANCES = {"float64": 1e-10, "float32": 3e-6}
_PER_EPOCH, _EPOCHS = 13, 20
_TOTAL = _PER_EPOCH * _EPOCHS


def rows():
  """Learning rates, decay, moving averages, clipping."""
  for dtype in PRECISIONS:
    with precision(dtype):
      yield from _rates(dtype)
      yield from _averages(dtype)
  yield from _clipping()


def _values(schedule):
  """A schedule at all steps."""
  return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(_TOTAL)))


def _pointwise(ours, theirs):
  """{step: error over the rate of that step}."""
  ours = np.asarray(ours, np.float64)
  theirs = np.asarray(theirs, np.float64)
  scale = np.where(theirs == 0, np.max(np.abs(theirs)), np.abs(theirs))
  return {f"step {i}": e for i, e in enumerate(np.abs(ours - theirs) / scale)}


def _half_cosine(share):
  import torch

  # 1 + cos(pi x) = 2 sin(pi (1 - x) / 2)^2, which does not cancel at x = 1.
  return torch.sin(torch.pi / 2 * (1 - share)) ** 2


def _rates(dtype):
  import torch

  wide = torch.float64
  steps = torch.arange(_TOTAL, dtype=wide)
  run = RunInfo(_TOTAL, _PER_EPOCH, _PER_EPOCH * 512, 512)
  peak = 2 * 1.5e-4  # base times 512 / 256

  def ours(**keys):
    config = config_lib.base().optimizer
    config.update(keys)
    schedule = optimizer_lib.learning_rate(config, run, epochs=_EPOCHS)
    return _values(schedule)

  make = functools.partial(
    compared, SUITE, precision=dtype, tolerance=_TOLERANCES[dtype]
  )

  # MAE: by the epoch as a fraction.
  warm = 2.5
  epochs = steps / _PER_EPOCH
  falling = peak * _half_cosine((epochs - warm) / (_EPOCHS - warm))
  yield make(
    "learning rate: warm-up of 2.5 epochs, cosine (MAE)",
    OURS,
    errors=_pointwise(
      ours(warmup_epochs=warm),
      torch.where(epochs < warm, peak * epochs / warm, falling),
    ),
  )

  # SwAV: linspace from a rate to the peak, the peak twice, down to another.
  first, last, count = 1e-5, 3e-6, 3 * _PER_EPOCH
  rising = torch.linspace(first, peak, count, dtype=wide)
  share = torch.arange(_TOTAL - count, dtype=wide) / (_TOTAL - count)
  falling = last + (peak - last) * _half_cosine(share)
  yield make(
    "learning rate: linspace warm-up from and to a rate (SwAV, MEC, DINO)",
    OURS,
    errors=_pointwise(
      ours(
        warmup="linspace",
        warmup_epochs=3.0,
        first_learning_rate=first,
        min_learning_rate=last,
      ),
      torch.cat([rising, falling]),
    ),
  )

  # SimSiam: no warm-up, constant inside an epoch; torch's own, once an epoch.
  p = torch.nn.Parameter(torch.zeros(1, dtype=wide))
  sgd = torch.optim.SGD([p], lr=peak)
  cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, _EPOCHS)
  by_epoch = []
  for _ in range(_EPOCHS):
    by_epoch += [sgd.param_groups[0]["lr"]] * _PER_EPOCH
    sgd.step()
    cosine.step()
  yield make(
    "learning rate: cosine by the epoch (SimSiam)",
    f"torch {torch.__version__} CosineAnnealingLR",
    errors=_pointwise(ours(warmup_epochs=0.0, schedule_per="epoch"), by_epoch),
  )

  config = config_lib.base().optimizer
  config.update(weight_decay=0.04, final_weight_decay=0.4)
  decay = optimizer_lib.weight_decay(config, _TOTAL)
  grown = 0.4 + (0.04 - 0.4) * (1 + torch.cos(torch.pi * steps / _TOTAL)) / 2
  yield make(
    "weight decay: half a cosine upwards (DINO)",
    OURS,
    errors=_pointwise(_values(decay), grown),
  )

  rate = _values(parts.cosine_momentum(0.996, _TOTAL))
  yield make(
    "momentum of a teacher: 1 - m, cosine from 0.996 to 1 (BYOL)",
    OURS,
    errors=_pointwise(rate, 0.004 * _half_cosine(steps / _TOTAL)),
  )


def _averages(dtype):
  """A hundred updates of an average of two tensors."""
  import torch

  rng = np.random.default_rng(3)
  shapes = {"a": (3, 4), "b": (5,)}
  first = {n: rng.normal(size=s).astype(dtype) for n, s in shapes.items()}
  values = [
    {n: x + rng.normal(size=x.shape).astype(dtype) for n, x in first.items()}
    for _ in range(100)
  ]
  kind = getattr(torch, dtype)

  class Model(torch.nn.Module):
    """Two parameters."""

    def __init__(self):
      super().__init__()
      for name, x in first.items():
        x = torch.from_numpy(x.copy())
        self.register_parameter(name, torch.nn.Parameter(x))

  model = Model()
  swa = torch.optim.swa_utils
  averaged = swa.AveragedModel(
    model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.99)
  )
  averaged.update_parameters(model)  # the first update copies
  move = jax.jit(lambda old, new: parts.ema(old, new, 1 - 0.99))
  ours = first
  for value in values:
    with torch.no_grad():
      for name, p in model.named_parameters():
        p.copy_(torch.from_numpy(value[name]).to(kind))
    averaged.update_parameters(model)
    ours = move(ours, value)
  theirs = {
    n: p.detach().numpy() for n, p in averaged.module.named_parameters()
  }
  yield compared(
    SUITE,
    "moving average: 100 updates at momentum 0.99",
    f"torch {torch.__version__} AveragedModel",
    dtype,
    tree_errors(jax.device_get(ours), theirs),
    {"float64": 1e-12, "float32": 3e-6}[dtype],
  )


def _clipping():
  """Of the whole gradient, and of each tensor; both clip here."""
  import torch

  rng = np.random.default_rng(2)
  gradient = {
    "a": rng.normal(size=(5, 4)),
    "b": 1e-3 * rng.normal(size=7),
    "c": 30 * rng.normal(size=(2, 3)),
  }
  tensors = {n: torch.from_numpy(g.copy()) for n, g in gradient.items()}
  for name, key, note in (
    (
      "clip_norm",
      "clip_norm",
      "torch adds 1e-6 to the norm, of 66 here; we add nothing",
    ),
    ("clip_each", "clip_each", "DINO's program adds 1e-6 to the norm, and we"),
  ):
    config = config_lib.base().optimizer
    config[key] = 0.7
    with precision("float64"):
      transform = clipping.clipping(config)
      ours, _ = jax.jit(transform.update)(gradient, transform.init(gradient))
      ours = jax.device_get(ours)
    params = [torch.nn.Parameter(x.clone()) for x in tensors.values()]
    for p, x in zip(params, tensors.values(), strict=True):
      p.grad = x.clone()
    for some in [params] if key == "clip_norm" else [[p] for p in params]:
      torch.nn.utils.clip_grad_norm_(some, 0.7)
    theirs = dict(zip(tensors, (p.grad.numpy() for p in params), strict=True))
    yield compared(
      SUITE,
      f"clipping: {name}",
      f"torch {torch.__version__} clip_grad_norm_",
      "float64",
      tree_errors(ours, theirs),
      2e-8 if key == "clip_norm" else 1e-10,
      note=note,
    )
  config = config_lib.base().optimizer
  config.clip_norm = 0.7
  with precision("float64"):
    transform = clipping.clipping(config)
    ours, _ = jax.jit(transform.update)(gradient, transform.init(gradient))
    ours = jax.device_get(ours)
  norm = torch.cat([x.flatten() for x in tensors.values()]).norm()
  factor = torch.clamp(0.7 / norm, max=1.0)
  yield compared(
    SUITE,
    "clipping: clip_norm, g min(1, c / ||g||)",
    OURS,
    "float64",
    tree_errors(ours, {n: (factor * x).numpy() for n, x in tensors.items()}),
    1e-10,
  )
