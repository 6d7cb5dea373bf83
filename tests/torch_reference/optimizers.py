"""Schedules and optimizers; AdamW and SGD are PyTorch's own."""

import math

import torch

# What some networks have apart and others, ours too, in one tensor.
_JOINED = ("q_proj", "k_proj", "v_proj", "query", "key", "value")


def warmup_cosine(step, *, peak, warmup, total):
  """The learning rate: a line from 0 to the peak, then half a cosine to 0.

  Args:
    step: updates done.
    peak: the highest rate.
    warmup, total: in steps.
  """
  if step < warmup:
    return peak * step / warmup
  done = (step - warmup) / (total - warmup)
  return peak * 0.5 * (1 + math.cos(math.pi * done))


def teacher_rate(step, *, momentum, total):
  """1 - momentum of the teacher, along half a cosine from its first to 0."""
  return (1 - momentum) * 0.5 * (1 + math.cos(math.pi * step / total))


def build(model, settings):
  """The optimizer of a network: PyTorch's own AdamW and SGD, or `Lars`.

  Args:
    model: whose parameters with a gradient are moved.
    settings: `config.optimizer`, or a dictionary of its keys; `decay` is "all"
      or "matrices", tensors of two or more axes.
  Returns:
    A torch.optim.Optimizer; the caller sets "lr" in each step.
  """
  named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
  if settings["name"] == "lars":
    return Lars(named, settings)
  decay = settings["weight_decay"]
  groups = [
    {"params": [p for _, p in named if p.ndim > 1], "weight_decay": decay},
    {
      "params": [p for _, p in named if p.ndim <= 1],
      "weight_decay": decay if settings["decay"] == "all" else 0.0,
    },
  ]
  if settings["name"] == "adamw":
    betas = settings["b1"], settings["b2"]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=settings["eps"])
  return torch.optim.SGD(
    groups,
    lr=0.0,
    momentum=settings["momentum"],
    nesterov=settings["nesterov"],
  )


class Lars(torch.optim.Optimizer):
  """LARS and LARC: SGD whose gradients get the length of their tensors.

  g <- g + decay p
  g <- trust |p| / |g| g      (matrices, or all; 1 if a length is 0)
  m <- momentum m + g,  p <- p - lr m

  LARC divides by |gradient| + decay |p| + 1e-8 instead of |g|. Queries, keys
  and values that a network has apart count as the one tensor that they are in
  ours: the lengths are those of the three together.
  """

  def __init__(self, named, settings):
    """The optimizer of [(name, parameter)]; `settings` as in `build`."""
    self._settings = settings
    joined = {}
    for name, p in named:
      parts = name.split(".")
      if len(parts) > 1 and parts[-2] in _JOINED:
        parts[-2] = "qkv"
      joined.setdefault(".".join(parts), []).append(p)
    self._tensors = list(joined.values())
    super().__init__([p for _, p in named], {"lr": 0.0})

  @torch.no_grad()
  def step(self):
    """One step at the learning rate of the only group."""
    c, rate = self._settings, self.param_groups[0]["lr"]
    for tensor in self._tensors:
      is_matrix = tensor[0].ndim > 1
      decay = c["weight_decay"] if is_matrix or c["decay"] == "all" else 0.0
      decayed = [p.grad + decay * p for p in tensor]
      factor = 1.0
      if is_matrix or c["adapt"] == "all":
        factor = self._factor(tensor, decayed, decay, rate)
      for p, g in zip(tensor, decayed, strict=True):
        m = self.state[p].setdefault("momentum", torch.zeros_like(p))
        if c["rate_inside_momentum"]:
          m.mul_(c["momentum"]).add_(rate * factor * g)
          p.sub_(m)
        else:
          m.mul_(c["momentum"]).add_(factor * g)
          p.sub_(rate * m)

  def _factor(self, tensor, decayed, decay, rate):
    c, size, length = self._settings, _norm(tensor), _norm(decayed)
    if not size or not length:
      return 1.0
    if not c["larc"]:
      return c["trust"] * size / length
    raw = _norm([p.grad for p in tensor])
    factor = c["trust"] * size / (raw + decay * size + 1e-8)
    if c["larc_clip"]:
      return min(factor / rate, 1.0) if rate else 1.0
    return factor


def _norm(tensors):
  return math.sqrt(sum(float(x.square().sum()) for x in tensors))
