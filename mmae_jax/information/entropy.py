"""Matrix entropies, joint entropy, mutual information, in nats."""

import math

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra


def _check_order(order):
  if not (isinstance(order, (int, float)) and order > 0):
    raise ValueError(f"order must be a positive number, got {order!r}")


def spectral_entropy(p, *, order=1.0):
  """Renyi entropy of a spectrum.

      H_a(p) = log(sum_i p_i^a) / (1 - a),   H_1(p) = -sum_i p_i log p_i,
      H_inf(p) = -log max_i p_i

  Args:
    p: probabilities, [n], as `spectrum` returns them.
    order: a, positive; 1 is von Neumann's entropy, math.inf the min-entropy.
  Returns:
    Scalar in nats, between 0 and log n; an all-zero p gives 0.
  Raises:
    ValueError: order is not positive.
  Source:
    Renyi 1961; for matrices Tan et al. 2023 (arXiv 2309.17281), definition of
    matrix entropy.
  """
  _check_order(order)
  p = spectra.widen(p)
  absent = p <= 0
  safe = jnp.where(absent, 1.0, p)
  if order == 1:
    return -jnp.sum(jnp.where(absent, 0.0, safe * jnp.log(safe)))
  if math.isinf(order):
    largest = jnp.max(jnp.where(absent, 0.0, p))
    return -jnp.log(jnp.where(largest == 0, 1.0, largest))
  total = jnp.sum(jnp.where(absent, 0.0, safe**order))
  return jnp.log(jnp.where(total == 0, 1.0, total)) / (1.0 - order)


def matrix_entropy(k, *, order=1.0):
  """Matrix entropy of a positive semi-definite matrix.

      H_a(K) = log(tr (K / tr K)^a) / (1 - a),
      H_1(K) = -tr(K/tr K log K/tr K)

  Order 2 is -log ||K/tr K||_F^2: two passes over the entries, differentiable,
  no factorisation. Other orders take the eigenvalues and are diagnostics
  without a gradient.

  Args:
    k: symmetric positive semi-definite, [n, n]; divided by its trace here, so
      unit-diagonal and unit-trace matrices agree.
    order: positive; math.inf is allowed.
  Returns:
    Scalar in nats, 0 <= H <= log n, non-increasing in the order. On a sample
    Gram matrix it is at most log(rank): compare only at equal n.
  Raises:
    ValueError: k is not a square floating-point matrix or order <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281, which defines it for
    unit-diagonal matrices divided by n. Their repository has no measurement
    code to differ from.
  """
  _check_order(order)
  if order == 2:
    k = spectra.unit_trace(k)
    total = jnp.sum(k * k)
    return -jnp.log(jnp.where(total == 0, 1.0, total))
  return spectral_entropy(spectra.spectrum(k), order=order)


def joint_entropy(k1, k2, *, order=1.0):
  """Matrix joint entropy, the entropy of the Hadamard product.

      H_a(K1, K2) = H_a(K1 o K2)

  Holds for unit-diagonal positive semi-definite matrices of the same n
  objects (`cosine_gram`, `correlation`): the product is one again (Schur), and
  max(H(K1), H(K2)) <= H(K1, K2) <= log n. Its rank may reach the product of
  the ranks, so it can exceed log dim when both entropies cannot.

  Args:
    k1, k2: symmetric positive semi-definite with unit diagonals, [n, n].
    order: as in `matrix_entropy`; 2 is differentiable and never factorises.
  Returns:
    Scalar in nats.
  Raises:
    ValueError: not square floating-point matrices of one shape, order <= 0.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281; Giraldo et al. 2014.
    The authors published no measurement code.
  """
  checks.check_square("k1", k1)
  checks.check_same_shape(k1=k1, k2=k2)
  return matrix_entropy(spectra.widen(k1) * spectra.widen(k2), order=order)


def mutual_information(k1, k2, *, order=1.0):
  """Matrix mutual information.

      I_a(K1; K2) = H_a(K1) + H_a(K2) - H_a(K1 o K2)

  For unit-diagonal matrices (no zero rows) at most min(H(K1), H(K2)) for every
  order, and not negative for order 1; orders 2 and 3 can be negative and are
  not clamped. With K1 = K2 = I it is log n whatever the pairing of the rows:
  it measures uniformity more than agreement, so read it beside an alignment.
  I(K; K) is not H(K).

  Args:
    k1, k2, order: as in `joint_entropy`.
  Returns:
    Scalar in nats; it depends on n, compare only at equal n.
  Raises:
    ValueError: as `joint_entropy`.
  Source:
    Tan et al. 2023, https://arxiv.org/abs/2309.17281.
  """
  joint = joint_entropy(k1, k2, order=order)
  return (
    matrix_entropy(k1, order=order) + matrix_entropy(k2, order=order) - joint
  )


def conditional_entropy(k1, k2, *, order=1.0):
  """Matrix conditional entropy of the first matrix given the second.

      H_a(K1 | K2) = H_a(K1 o K2) - H_a(K2)

  Args:
    k1, k2, order: as in `joint_entropy`.
  Returns:
    Scalar in nats, never negative for unit-diagonal matrices.
  Raises:
    ValueError: as `joint_entropy`.
  Source:
    Giraldo, Rao and Principe 2014, https://arxiv.org/abs/1211.2459.
  """
  return joint_entropy(k1, k2, order=order) - matrix_entropy(k2, order=order)


def mutual_information_ratio(k1, k2, *, order=1.0):
  """Mutual information as a share of the smaller entropy (MIR).

      I_a(K1; K2) / min(H_a(K1), H_a(K2))

  Args:
    k1, k2, order: as in `joint_entropy`.
  Returns:
    Scalar, at most 1; 0 where an entropy is 0 (full collapse).
  Raises:
    ValueError: as `joint_entropy`.
  Source:
    Recollection, not verified: a sibling paper of the authors (ICML 2024).
  """
  information = mutual_information(k1, k2, order=order)
  least = jnp.minimum(
    matrix_entropy(k1, order=order), matrix_entropy(k2, order=order)
  )
  collapsed = least == 0
  return jnp.where(collapsed, 0.0, information / jnp.where(collapsed, 1, least))


def entropy_difference_ratio(k1, k2, *, order=1.0):
  """Difference of two matrix entropies as a share of the larger (HDR).

      |H_a(K1) - H_a(K2)| / max(H_a(K1), H_a(K2))

  Args:
    k1, k2: symmetric positive semi-definite matrices; sizes may differ.
    order: as in `matrix_entropy`.
  Returns:
    Scalar in [0, 1]; 0 where both entropies are 0.
  Raises:
    ValueError: not square floating-point matrices, order <= 0.
  Source:
    Recollection, not verified: a sibling paper of the authors (ICML 2024).
  """
  h1 = matrix_entropy(k1, order=order)
  h2 = matrix_entropy(k2, order=order)
  most = jnp.maximum(h1, h2)
  collapsed = most == 0
  return jnp.where(
    collapsed, 0.0, jnp.abs(h1 - h2) / jnp.where(collapsed, 1, most)
  )


def effective_rank(z, *, centre=False):
  """Effective rank of features.

      exp(H_1(Z^T Z / tr Z^T Z)),   rows of Z normalised

  Args:
    z: features, [batch, dim]; rows are normalised here.
    centre: subtract the mean of the normalised rows first.
  Returns:
    Scalar between 1 and min(batch, dim); a diagnostic without a gradient. The
    second moment is uncentred, so a common mean direction lowers it.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Roy and Vetterli 2007, "The effective rank", on the eigenvalues of the
    second moment (not on the singular values of Z, which are their roots and
    give another number).
  """
  z = jax.lax.stop_gradient(z)
  p = spectra.feature_spectrum(z, centre=centre)
  return jnp.exp(spectral_entropy(p))


def rankme(z):
  """RankMe, the effective rank of the feature matrix itself.

      exp(-sum_k p_k log p_k),   p_k = sigma_k / sum_j sigma_j + 1e-7

  Its singular values are the roots of the eigenvalues that `effective_rank`
  reads, and rows are not normalised: RankMe is the larger number of the two.

  Args:
    z: features, [batch, dim]; taken as they are.
  Returns:
    Scalar, about 1 to min(batch, dim); a diagnostic without a gradient. For
    all-zero features every p_k is 1e-7.
  Raises:
    ValueError: z is not a floating-point matrix.
  Source:
    Garrido et al. 2023, https://arxiv.org/abs/2210.02885, equation 1.
  """
  checks.check_matrix("z", z)
  z = jax.lax.stop_gradient(spectra.widen(z))
  # The roots of a Gram matrix's eigenvalues would lose half of the digits.
  sigma = jnp.linalg.svd(z, compute_uv=False)
  total = jnp.sum(sigma)
  p = sigma / jnp.where(total > 0, total, 1.0) + 1e-7
  return jnp.exp(-jnp.sum(p * jnp.log(p)))
