"""BatchNorm and its running statistics, for launch/parity.py.

Part of the suite `optimizers`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax.models.norm import BatchNorm
from parity_suites.networks import precision
from parity_suites.rows import PRECISIONS, compared, error, tree_errors

SUITE = "optimizers"
_NORMS = {"float64": 1e-10, "float32": 1e-5}

# name: (shape, mean, deviation); after the batch, any axes, then the channels.
_CASES = {
  "rows": ((16, 6), 0.3, 1.0),
  "maps": ((4, 3, 5, 6), 0.3, 1.0),
  "two rows": ((2, 6), 0.0, 1.0),
  "almost constant": ((16, 6), 1.0, 1e-3),
  "huge": ((16, 6), 0.0, 1e4),
  "tiny": ((16, 6), 0.0, 1e-4),
}
# What float32 cannot do well, ten times above what was measured.
_HARD = ("two rows", "almost constant")
_WHY_HARD = (
  "ill-conditioned: the deviation is 1e-3 of the mean, whose rounding it"
  " multiplies by 1000; of two rows the input's gradient is zero but for"
  " epsilon"
)


def rows():
  """Outputs, gradients and statistics, of the batch and of groups."""
  for dtype in PRECISIONS:
    with precision(dtype):
      yield from _norms(dtype)


def _norms(dtype):
  """Three steps of training, then evaluation."""
  for group in (0, 8):
    errors = {"output": {}, "gradient": {}, "statistics": {}}
    for case, (shape, mean, deviation) in _CASES.items():
      if group and shape != (16, 6):
        continue
      rng = np.random.default_rng(4)
      batches = rng.normal(mean, deviation, size=(3, *shape)).astype(dtype)
      weight = rng.normal(size=shape).astype(dtype)
      affine = {
        "scale": rng.uniform(0.5, 1.5, shape[-1]).astype(dtype),
        "bias": rng.normal(size=shape[-1]).astype(dtype),
      }
      ours = _our_norm(batches, weight, affine, group)
      theirs = _their_norm(batches, weight, affine, group)
      errors["output"][case] = max(map(error, ours[0], theirs[0]))
      errors["gradient"][case] = max(tree_errors(ours[1], theirs[1]).values())
      errors["statistics"][case] = max(map(error, ours[2], theirs[2]))
    name = f"BatchNorm in groups of {group}" if group else "BatchNorm"
    for what, found in errors.items():
      title = {
        "output": "outputs, training and evaluation",
        "gradient": "gradient of input, scale and bias",
        "statistics": "running statistics after 3 steps",
      }[what]
      if dtype == "float32" and what != "statistics":
        hard = {case: found.pop(case) for case in _HARD if case in found}
        tolerance = {"output": 1e-4, "gradient": 2e-3}[what]
        yield _norm_row(
          f"{name}: {title}, hard", dtype, hard, tolerance, _WHY_HARD
        )
      yield _norm_row(f"{name}: {title}", dtype, found, _NORMS[dtype], "")


def _norm_row(title, dtype, errors, tolerance, note):
  import torch

  return compared(
    SUITE,
    title,
    f"torch {torch.__version__} batch_norm",
    dtype,
    errors,
    tolerance,
    note=note,
  )


def _our_norm(batches, weight, affine, group):
  norm = BatchNorm(group_size=group)

  @jax.jit
  def step(stats, x, affine):
    def loss(x, affine):
      y, updated = norm.apply(
        {"params": affine, "batch_stats": stats},
        x,
        train=True,
        mutable=["batch_stats"],
      )
      return jnp.sum(y * weight), (y, updated["batch_stats"])

    return jax.grad(loss, (0, 1), has_aux=True)(x, affine)

  dim = batches.shape[-1]
  stats = {"mean": jnp.zeros(dim), "var": jnp.ones(dim)}
  outputs = []
  for x in batches:
    (of_x, of_affine), (y, stats) = step(stats, x, affine)
    outputs.append(y)
  outputs.append(
    norm.apply({"params": affine, "batch_stats": stats}, x, train=False)
  )
  gradient = {"x": of_x, **of_affine}
  return outputs, gradient, [stats["mean"], stats["var"]]


def _their_norm(batches, weight, affine, group):
  import torch

  def channels_second(x):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())

  def back(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)

  p = {n: torch.from_numpy(x).requires_grad_() for n, x in affine.items()}
  dim, rows_ = batches.shape[-1], batches.shape[1]
  mean = torch.zeros(dim, dtype=p["bias"].dtype)
  var = torch.ones(dim, dtype=p["bias"].dtype)
  outputs = []
  for batch in batches:
    x = channels_second(batch).requires_grad_()
    for q in p.values():
      q.grad = None
    ys, moved = [], []
    for part in x.split(group or rows_):
      own_mean, own_var = mean.clone(), var.clone()
      ys.append(
        torch.nn.functional.batch_norm(
          part, own_mean, own_var, p["scale"], p["bias"], training=True
        )
      )
      moved.append((own_mean, own_var))
    # Of groups, ours average the statistics.
    mean, var = (torch.stack(s).mean(0) for s in zip(*moved, strict=True))
    y = torch.cat(ys)
    (y * channels_second(weight)).sum().backward()
    outputs.append(back(y))
  outputs.append(
    back(torch.nn.functional.batch_norm(x, mean, var, p["scale"], p["bias"]))
  )
  gradient = {"x": back(x.grad)}
  gradient |= {n: q.grad.numpy() for n, q in p.items()}
  return outputs, gradient, [mean.numpy(), var.numpy()]
