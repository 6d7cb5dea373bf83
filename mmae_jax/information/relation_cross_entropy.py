"""Matrix cross-entropy between the relations of a batch: RelationMatch."""

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra, traces


def relation_matrix_cross_entropy(
  logits,
  targets,
  *,
  order=3,
  ridge=1.0,
  temperature=1.0,
  plus_trace=True,
  mask=None,
):
  """Matrix cross-entropy of the batch's Gram matrices of class probabilities.

      MCE = -tr(P T(Q)) [+ tr Q],   T(Q) = sum_k (-1)^(k+1) (Q - I)^k / k,
      P = N(Y Y^T / batch + ridge I),   Y = one_hot(targets),
      Q = N(S S^T / batch + ridge I),   S = softmax(logits),
      N(A)_ij = exp(A_ij / temperature) / sum_kl exp(A_kl / temperature)

  P says which samples are of one class, Q which ones the model takes for that.
  Matrices of [batch, batch] and a softmax in float32, nothing larger.

  Args:
    logits: [batch, classes]; of tokens, the vocabulary.
    targets: whole numbers in [0, classes), [batch].
    order: Taylor terms of the logarithm about one.
    ridge: on both Gram matrices before the exponential; not negative.
    temperature: of the exponential; positive.
    plus_trace: + tr Q.
    mask: [batch], which samples count: the others are as if absent, whatever
      they hold. None: all.
  Returns:
    Scalar in nats, at least float32; 0 where the mask leaves nothing.
  Raises:
    ValueError: shapes or types that do not fit, order < 1, ridge negative or
      temperature not positive.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.10397, as its program is
    described in our notes, with its defaults; its weight of the term is 0.003.
    The notes do not say whether ridge is added once more after the division:
    we add it once, before the exponential, in the order of their words. The
    sum is that of all entries, hence tr Q < 1. The mask is ours.
  """
  checks.check_matrix("logits", logits)
  checks.check_order(order)
  checks.check_not_negative("ridge", ridge)
  checks.check_positive("temperature", temperature)
  batch = (jnp.shape(logits)[0],)
  if not jnp.issubdtype(jnp.result_type(targets), jnp.integer):
    raise ValueError(
      f"targets must be whole numbers, got {jnp.result_type(targets)}"
    )
  for name, x in (("targets", targets), ("mask", mask)):
    if x is not None and jnp.shape(x) != batch:
      raise ValueError(
        f"{name} must have the shape {batch} of logits' rows, got"
        f" {jnp.shape(x)}"
      )
  mask = jnp.ones(batch, bool) if mask is None else jnp.asarray(mask, bool)
  # A masked row may hold anything: it must not reach the softmax's gradient.
  logits = jnp.where(mask[:, None], spectra.widen(logits), 0.0)
  s = jnp.where(mask[:, None], jax.nn.softmax(logits, axis=1), 0.0)
  same = (targets[:, None] == targets[None, :]).astype(s.dtype)
  p = _normalised(same, mask, ridge, temperature)
  q = _normalised(spectra.self_product(s), mask, ridge, temperature)
  # In powers of Q, which has small entries, and not of Q - I: masked rows are
  # zero in every one of them.
  weighted = traces.weighted_power_traces(p, q, order)
  coefficients = traces.log_coefficients(order, 0.0)
  value = -sum(c * t for c, t in zip(coefficients, weighted, strict=True))
  return value + jnp.trace(q) if plus_trace else value


def _normalised(gram, mask, ridge, temperature):
  """N(gram / batch + ridge I) of the rows and columns that the mask keeps."""
  count = jnp.maximum(jnp.sum(mask), 1).astype(gram.dtype)
  on = jnp.eye(gram.shape[0], dtype=bool)
  a = (gram / count + jnp.where(on, ridge, 0.0)) / temperature
  a = a - jax.lax.stop_gradient(jnp.max(a))
  a = jnp.where(mask[:, None] & mask[None, :], jnp.exp(a), 0.0)
  total = jnp.sum(a)
  return a / jnp.where(total > 0, total, 1.0)
