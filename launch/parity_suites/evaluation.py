"""Evaluation of equal features, for launch/parity.py.

Part of the suite `images`: neighbours and their votes, logistic regression,
and a hundred steps of the papers' linear probe.
"""

import math

import jax
import numpy as np
import sklearn
import sklearn.neighbors

from mmae_jax.evaluate import head as head_lib, knn, linear
from mmae_jax.train import lars, optimizer as optimizer_lib
from parity_suites.networks import precision
from parity_suites.rows import (
  OURS,
  PRECISIONS,
  compared,
  error,
  tree_errors,
)

SUITE = "images"
_CLASSES, _DIM = 5, 16
_STEPS = 100
# About ten times what was measured.
_TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


def features(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Overlapping classes: float32 [rows, dim], int [rows]."""
  centres = np.random.default_rng(9).normal(size=(_CLASSES, _DIM))
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, _CLASSES, rows)
  x = centres[labels] + 2.0 * rng.normal(size=(rows, _DIM))
  return x.astype(np.float32), labels


def rows():
  """k-NN, logistic regression, the linear probe."""
  train, test = features(400, 10), features(300, 11)
  yield from _neighbours(train, test)
  yield _regression(features(60, 10), features(1000, 11))
  for dtype in PRECISIONS:
    with precision(dtype):
      yield from _probe(dtype)


def _neighbours(train, test):
  import torch

  k, temperature = 20, 0.07
  index, cosines = knn.nearest_neighbours(train[0], test[0], k=k)
  x, u = (
    torch.nn.functional.normalize(torch.from_numpy(z).double())
    for z in (train[0], test[0])
  )
  theirs, at = (u @ x.T).topk(k, dim=1)
  torch_said = f"torch {torch.__version__} topk, float64"
  yield compared(
    SUITE,
    "k-NN: cosines of the 20 nearest",
    torch_said,
    "float32",
    error(cosines, theirs),
    1e-6,
  )
  yield compared(
    SUITE,
    "k-NN: share of other neighbours",
    torch_said,
    "float32",
    float(np.mean(index != at.numpy())),
    0.0,
  )
  # DINO's formula: votes of weight exp(cosine / temperature).
  votes = torch.zeros(len(u), _CLASSES, dtype=torch.float64)
  labels = torch.from_numpy(train[1])[at]
  votes.scatter_add_(1, labels, (theirs / temperature).exp())
  ours = knn.vote(
    train[1][index], cosines, num_classes=_CLASSES, temperature=temperature
  )
  yield compared(
    SUITE,
    "k-NN: share of other predictions",
    OURS,
    "float32",
    float(np.mean(ours != votes.argmax(1).numpy())),
    0.0,
  )
  model = sklearn.neighbors.KNeighborsClassifier(
    k,
    metric="cosine",
    weights=lambda distances: np.exp((1 - distances) / temperature),
  )
  theirs = model.fit(*train).score(*test)
  ours = knn.knn_accuracy(*train, *test, k=k, temperature=temperature)
  yield compared(
    SUITE,
    "k-NN: accuracy",
    f"scikit-learn {sklearn.__version__}",
    "float32",
    abs(ours - theirs),
    0.0,
    note=f"accuracy {theirs:.4f}",
  )


def _regression(train, test):
  """Multinomial, an L2 penalty on the weights: minimised by torch's L-BFGS."""
  import torch

  x, u = (torch.from_numpy(z[0]).double() for z in (train, test))
  mean, std = x.mean(0), x.std(0, correction=0)
  x, u = (x - mean) / std, (u - mean) / std
  weight = torch.zeros(_CLASSES, _DIM, dtype=x.dtype, requires_grad=True)
  bias = torch.zeros(_CLASSES, dtype=x.dtype, requires_grad=True)
  optimizer = torch.optim.LBFGS(
    [weight, bias],
    max_iter=300,
    tolerance_grad=1e-9,
    tolerance_change=0,
    line_search_fn="strong_wolfe",
  )
  labels = torch.from_numpy(train[1])

  def closure():
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(
      x @ weight.T + bias, labels, reduction="sum"
    )
    loss = loss + weight.square().sum() / 2  # C = 1
    loss.backward()
    return loss

  optimizer.step(closure)
  predicted = (u @ weight.T + bias).argmax(1).numpy()
  # The accuracy of ours on theirs: the share of equal predictions.
  equal = linear.logistic_regression(*train, test[0], predicted)
  return compared(
    SUITE,
    "logistic regression: share of other predictions",
    f"{OURS}, L-BFGS",
    "float64",
    1 - equal,
    0.005,
    note=f"of {len(predicted)}, accuracy {np.mean(predicted == test[1]):.3f};"
    " scikit-learn stops at 1e-4 of its gradient: at 1e-8 it has torch's",
  )


def _probe(dtype):
  """The papers' linear head under LARS, in half-batches of one data set."""
  x, labels = features(200, 12)
  x, batch, warm, peak = x.astype(dtype), 100, 10, 3.0
  schedule = optimizer_lib.warmup_cosine(
    peak=peak, end=0.0, warmup_steps=warm, total_steps=_STEPS
  )
  transform = lars.lars(schedule, momentum=0.9, weight_decay=1e-4)
  head = head_lib.LinearHead(_CLASSES)
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
  state = head_lib.initial_state(0, head, transform, _DIM, mesh)
  state = jax.tree.map(
    lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, state
  )
  start = {
    name: np.asarray(a) for name, a in state["params"]["Dense_0"].items()
  }
  step = head_lib.make_step(
    lambda variables, rows: rows, head, transform, microbatches=2
  )
  ours = []
  for i in range(_STEPS):
    part = slice(0, batch) if i % 2 else slice(batch, None)
    state, loss = step(state, {}, {"global": x[part], "label": labels[part]})
    ours.append(float(loss))
  params = {n: np.asarray(a) for n, a in state["params"]["Dense_0"].items()}
  (stats,) = state["stats"].values()

  theirs, their_params, their_stats = _their_probe(
    x, labels, start, batch, warm, peak
  )
  curve = np.abs(np.array(ours) - theirs) / np.abs(theirs)
  tolerance = _TOLERANCES[dtype]
  yield compared(
    SUITE,
    "linear probe: losses of 100 steps",
    OURS,
    dtype,
    {f"step {i}": e for i, e in enumerate(curve)},
    tolerance,
    curve=curve,
    note=f"the loss goes from {theirs[0]:.3f} to {theirs[-1]:.3f}",
  )
  yield compared(
    SUITE,
    "linear probe: weights and running statistics after 100 steps",
    OURS,
    dtype,
    tree_errors(
      params | {n: np.asarray(a) for n, a in stats.items()},
      their_params | their_stats,
    ),
    tolerance,
  )


def _their_probe(x, labels, start, batch, warm, peak):
  import torch

  x, labels = torch.from_numpy(x), torch.from_numpy(labels)
  norm = torch.nn.BatchNorm1d(_DIM, eps=1e-6, affine=False).to(x.dtype)
  weight = torch.from_numpy(start["kernel"].T.copy()).requires_grad_()
  bias = torch.from_numpy(start["bias"].copy()).requires_grad_()
  trace = [torch.zeros_like(weight), torch.zeros_like(bias)]
  losses = []
  for i in range(_STEPS):
    part = slice(0, batch) if i % 2 else slice(batch, None)
    loss = torch.nn.functional.cross_entropy(
      norm(x[part]) @ weight.T + bias, labels[part]
    )
    g, of_bias = torch.autograd.grad(loss, (weight, bias))
    rate = peak * i / warm
    if i >= warm:
      share = (i - warm) / (_STEPS - warm)
      rate = peak * (1 + math.cos(math.pi * share)) / 2
    with torch.no_grad():
      g = g + 1e-4 * weight
      g = 0.001 * weight.norm() / g.norm() * g
      for p, m, moved in zip((weight, bias), trace, (g, of_bias), strict=True):
        m.mul_(0.9).add_(moved)
        p.sub_(rate * m)
    losses.append(loss.item())
  return (
    np.array(losses),
    {
      "kernel": weight.detach().numpy().T,
      "bias": bias.detach().numpy(),
    },
    {
      "mean": norm.running_mean.numpy(),
      "var": norm.running_var.numpy(),
    },
  )
