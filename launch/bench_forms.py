"""What the suite `information` times: our quantities and what stands beside.

"dense" is the form that the authors' programs use (`bench_dense`,
`bench_torch`). Precision is float32 with products at the highest precision
everywhere, as in `mmae_jax.information`.
"""

from collections.abc import Callable
import dataclasses
import functools

import bench_dense
from bench_targets import (
  DENSE,
  ENTROPY_2,
  LEAN,
  MATRIX_SSL,
  OURS,
  PRODUCTS,
  REGULARISER,
  TORCH,
)
import bench_torch
import jax
import jax.numpy as jnp
import numpy as np

from mmae_jax import information

_RIDGE = 0.1  # of the matrix whose logarithm is taken


@dataclasses.dataclass(frozen=True)
class Form:
  """One way to compute a quantity.

  Attributes:
    function: arrays -> scalar, in JAX, or in PyTorch if `in_torch`.
    work: (batch, dim) -> cost of the forward pass up to a factor, in FLOPs of
      matrix products; what larger sizes are extrapolated by.
    in_torch: whether it takes and returns tensors of PyTorch.
    differentiable: False: a diagnostic, timed forward only.
  """

  function: Callable
  work: Callable[[int, int], float]
  in_torch: bool = False
  differentiable: bool = True


@dataclasses.dataclass(frozen=True)
class Quantity:
  """What is computed, by one or several forms that take turns.

  Attributes:
    forms: name -> Form. `OURS` comes first where ratios to it make sense.
    inputs: (batch, dim) -> arrays of float32.
    learned: the number of leading inputs that the gradient is taken of.
    of_matrix: whether the input is one matrix [dim, dim], without a batch.
  """

  forms: dict[str, Form]
  inputs: Callable[[int, int], list[np.ndarray]]
  learned: int = 1
  of_matrix: bool = False


def quantities(with_torch: bool) -> dict[str, Quantity]:
  """All of them; forms in PyTorch only where it is installed."""
  found = {
    REGULARISER: Quantity(
      {
        OURS: Form(information.coding_rate, _factor_of_smaller),
        DENSE: Form(bench_dense.coding_rate, _factor_of_dim),
        TORCH: Form(bench_torch.coding_rate, _factor_of_dim, in_torch=True),
      },
      features,
    ),
    "U-MAE mean squared cosine": Quantity(
      {
        OURS: Form(information.mean_squared_cosine, _products),
        DENSE: Form(bench_dense.mean_squared_cosine, _products_of_rows),
        TORCH: Form(
          bench_torch.mean_squared_cosine, _products_of_rows, in_torch=True
        ),
      },
      features,
    ),
    MATRIX_SSL: Quantity(
      {
        OURS: Form(matrix_ssl, _matrix_ssl),
        DENSE: Form(bench_dense.matrix_ssl, _dense_matrix_ssl),
        LEAN: Form(
          functools.partial(bench_dense.matrix_ssl, form_product=False),
          _dense_matrix_ssl,
        ),
        TORCH: Form(bench_torch.matrix_ssl, _dense_matrix_ssl, in_torch=True),
      },
      branches,
      learned=2,
    ),
    ENTROPY_2: Quantity(
      {
        OURS: Form(entropy_2, _products),
        PRODUCTS: Form(bench_dense.products_alone, _products),
      },
      features,
    ),
    "total coding rate": Quantity(
      {OURS: Form(total_coding_rate, _factor_of_smaller)}, features
    ),
    "von Mises-Fisher entropy": Quantity(
      {OURS: Form(information.vmf_entropy, _products_of_rows)}, features
    ),
    "effective rank": Quantity(
      {
        OURS: Form(
          information.effective_rank, _eigenvalues, differentiable=False
        )
      },
      features,
    ),
    "matrix logarithm": Quantity(
      {name: Form(*form) for name, form in _LOGARITHMS.items()},
      matrix,
      of_matrix=True,
    ),
    "log det(I + Q)": Quantity(
      {
        name: Form(*form, differentiable=False)
        for name, form in _LOG_DETS.items()
      },
      matrix,
      of_matrix=True,
    ),
    "entropy of order 1": Quantity(
      {
        name: Form(*form, differentiable=False)
        for name, form in _ENTROPIES.items()
      },
      matrix,
      of_matrix=True,
    ),
  }
  return {
    name: dataclasses.replace(
      quantity,
      forms={
        key: form
        for key, form in quantity.forms.items()
        if with_torch or not form.in_torch
      },
    )
    for name, quantity in found.items()
  }


# --- Inputs ------------------------------------------------------------------
def features(batch, dim):
  """[batch, dim] with a decaying spectrum, as networks have; not normalised."""
  rng = np.random.default_rng(0)
  return [_decaying(rng, batch, dim)]


def branches(batch, dim):
  """Students z1, z2 and targets p1, p2, [batch, dim]: four noisy copies."""
  rng = np.random.default_rng(0)
  common = _decaying(rng, batch, dim)
  return [common + 0.5 * _decaying(rng, batch, dim) for _ in range(4)]


def matrix(batch, dim):
  """Second moment of unit rows with a ridge, [dim, dim], of mean diagonal 1.1.

  Its condition number is about 50.
  """
  del batch
  (z,) = features(2 * dim, dim)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  return [(z.T @ z) / 2 + _RIDGE * np.eye(dim, dtype=z.dtype)]


def _decaying(rng, batch, dim):
  scale = np.exp(-2.0 * np.arange(dim) / dim).astype(np.float32)
  return rng.standard_normal((batch, dim), np.float32) * scale


# --- Ours, where it is not one call ------------------------------------------
def matrix_ssl(z1, z2, p1, p2):
  """Both directions, weight 1: half the sum of the four terms."""
  terms = [
    *information.matrix_ssl_terms(p2, z1),
    *information.matrix_ssl_terms(p1, z2),
  ]
  return sum(terms) / 2


def entropy_2(z):
  z = information.normalise_rows(z)
  k = information.gram(z, side="smaller")
  return information.matrix_entropy(k, order=2)


def total_coding_rate(z):
  return information.total_coding_rate(z, epsilon_squared=0.5)


# --- By method ---------------------------------------------------------------
def _log_by(method):
  def function(q):
    log = information.matrix_log(q, method=method)
    return jnp.sum(log * jnp.tri(q.shape[0], dtype=q.dtype))

  return function


def _and_identity(q):
  return jnp.eye(q.shape[0], dtype=q.dtype) + q


def _log_det_by_cholesky(q):
  chol = jnp.linalg.cholesky(_and_identity(q))
  return 2 * jnp.sum(jnp.log(jnp.diagonal(chol)))


def _log_det_by_eigenvalues(q):
  return jnp.sum(jnp.log(jnp.linalg.eigvalsh(_and_identity(q))))


def _log_det_by_newton_schulz(q):
  log = information.matrix_log(_and_identity(q), method="newton_schulz")
  return jnp.trace(log)


def _log_det_by_lanczos(q):
  return information.stochastic_log_det(jax.random.key(0), q)[0]


def _entropy_by_lanczos(q):
  return information.stochastic_entropy(jax.random.key(0), q)[0]


def _cubic(factor):
  return lambda batch, dim: factor * dim**3


def _lanczos(batch, dim):
  # 32 probes of 32 steps: products with the matrix, and orthogonalisation.
  return 32 * 32 * (2 * dim**2 + 8 * 32 * dim)


_LOGARITHMS = {
  "eigh": (_log_by("eigh"), _cubic(40)),
  "taylor": (_log_by("taylor"), _cubic(8)),
  "gauss_legendre": (_log_by("gauss_legendre"), _cubic(40)),
  "newton_schulz": (_log_by("newton_schulz"), _cubic(400)),
}
_LOG_DETS = {
  "Cholesky": (_log_det_by_cholesky, _cubic(1)),
  "eigvalsh": (_log_det_by_eigenvalues, _cubic(15)),
  "newton_schulz": (_log_det_by_newton_schulz, _cubic(400)),
  "Lanczos": (_log_det_by_lanczos, _lanczos),
}
_ENTROPIES = {
  "eigvalsh": (information.matrix_entropy, _cubic(15)),
  "Lanczos": (_entropy_by_lanczos, _lanczos),
}


# --- Work of a forward pass --------------------------------------------------
def _products(batch, dim):
  return 2 * batch * dim * min(batch, dim)


def _products_of_rows(batch, dim):
  return 2 * batch**2 * dim


def _factor_of_smaller(batch, dim):
  return _products(batch, dim) + 3 * min(batch, dim) ** 3


def _factor_of_dim(batch, dim):
  return 2 * batch * dim**2 + 3 * dim**3


def _eigenvalues(batch, dim):
  return _products(batch, dim) + 15 * min(batch, dim) ** 3


def _matrix_ssl(batch, dim):
  side = min(batch, dim)
  return 2 * (2 if batch < dim else 3) * 2 * batch * dim * side + 16 * side**3


def _dense_matrix_ssl(batch, dim):
  return 2 * 3 * 2 * batch * dim**2 + 2 * 16 * dim**3
