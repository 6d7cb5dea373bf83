"""How far entropies from few samples lie below those of the distribution."""

import math
import warnings

from mmae_jax.information.checks import check_count, check_positive


class BiasWarning(UserWarning):
  """An entropy is measured from too few samples for its dimension."""


def entropy_bias(samples, dim, *, order=1.0):
  """Expected bias of a matrix entropy from finitely many isotropic samples.

      b_a(n, d) = E[H_a(Z^T Z / n)] - log d

      b_1 = log(m / d) - (m - 1) / (2 M),   m = min(n, d), M = max(n, d)
      b_2 = -log(1 + (d - 1) / n)

  for n rows drawn uniformly from the unit sphere of d dimensions, whose own
  second moment I / d has the entropy log d at every order. The bias is never
  positive. With n < d the entropy cannot exceed log n: most of the deficit is
  rank, not shape. Features on fewer directions behave as if d were their
  effective rank, so d = dim overstates what they need. Entropies of sample
  Gram matrices are the same numbers: Z Z^T and Z^T Z share their spectrum.

  How far it holds, against simulation: order 1 to 0.35 / M nats from m = 2 on
  (exact at m = 1; the terms that are missing are of order 1 / M); order 2 is
  exact for E||Z^T Z / n||_F^2 and to 0.08 / M nats for the expected logarithm,
  which Jensen's inequality puts above it. It says nothing about features that
  are not isotropic, and nothing is ever corrected by it here.

  Args:
    samples: n, the number of rows.
    dim: d, the number of features.
    order: 1 or 2.
  Returns:
    A Python float in nats, zero or negative.
  Raises:
    ValueError: a count is not a whole number >= 1, or order is neither 1 nor 2.
  Source:
    Order 1: the average entropy of Page 1993 (gr-qc/9305007; exact for
    complex Gaussian rows) has the limit log m - m / (2 M), as the law of
    Marchenko and Pastur 1967 for real rows; unit rows make it m - 1, the
    second-order term of the entropy about I / d. Order 2: E<z_i, z_j>^2 =
    1 / d for independent rows.
  """
  check_count("samples", samples)
  check_count("dim", dim)
  if order == 1:
    smaller, larger = sorted((samples, dim))
    return math.log(smaller / dim) - (smaller - 1) / (2 * larger)
  if order == 2:
    return -math.log1p((dim - 1) / samples)
  raise ValueError(f"order must be 1 or 2, got {order!r}")


def samples_for(dim, *, tolerance=0.1, order=1.0):
  """Number of isotropic samples at which the entropy's bias is tolerable.

      min {n : -b_a(n, dim) <= tolerance}

  About dim / (2 tolerance) for order 1 and dim / tolerance for order 2.

  Args:
    dim: number of features, or their effective rank where it is known.
    tolerance: in nats, positive; 0.1 is a tenth of the effective rank.
    order: 1 or 2.
  Returns:
    A whole number of rows.
  Raises:
    ValueError: dim is not a whole number >= 1, tolerance is not positive, or
      order is neither 1 nor 2.
  Source:
    `entropy_bias`, which grows with n, searched by bisection.
  """
  check_positive("tolerance", tolerance)

  def enough(samples):
    return -entropy_bias(samples, dim, order=order) <= tolerance

  most = 1
  while not enough(most):
    most *= 2
  least = most // 2
  while most - least > 1:
    middle = (least + most) // 2
    least, most = (least, middle) if enough(middle) else (middle, most)
  return most


def warn_of_bias(samples, dim, *, tolerance=0.1, order=1.0):
  """Warns when an entropy from so many samples is expected to be too low.

      warns if -b_a(samples, dim) > tolerance

  Shapes are known while tracing, so it may be called in a function under
  `jax.jit`: it then warns once, when the function is traced. The entropy
  itself is left alone.

  Args:
    samples: number of rows the entropy is measured from.
    dim: number of features, or their effective rank where it is known.
    tolerance: in nats, positive.
    order: 1 or 2.
  Returns:
    The expected bias, a Python float in nats, zero or negative.
  Raises:
    ValueError: as `samples_for`.
  Source:
    `entropy_bias`.
  """
  check_positive("tolerance", tolerance)
  bias = entropy_bias(samples, dim, order=order)
  if -bias > tolerance:
    needed = samples_for(dim, tolerance=tolerance, order=order)
    warnings.warn(
      f"an entropy of order {order:g} from {samples} samples in {dim}"
      f" dimensions is expected {-bias:.3g} nats too low (isotropic features;"
      f" tolerance {tolerance:g}): take {needed} samples, or compare only"
      " values from equal numbers of samples",
      BiasWarning,
      stacklevel=2,
    )
  return bias
