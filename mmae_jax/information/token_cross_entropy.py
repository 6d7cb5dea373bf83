"""Matrix cross-entropy of tokens, without a matrix of [dim, dim] per token.

All that a token needs is z^T log(Q) z for few vectors z, and
Q z = E^T (q * (E z)) is two products of the size of a language model's head.
"""

import math

import jax.numpy as jnp

from mmae_jax.information import checks, token_chunks

METHODS = ("taylor", "lanczos")


def check_token_embeddings(embeddings, *, ridge=1.0, tolerance=None):
  """Raises ValueError where the Taylor form cannot converge.

      ||Q + (ridge - 1) I|| <= 1 for every q,   if ||e_i|| <= 1 and
      ridge is in (0, 1]

  Looks at values, so it is called outside jit, once; arrays that are sharded
  over devices stay where they are.

  Args:
    embeddings: token embeddings, [vocabulary, dim].
    ridge: of `token_matrix_cross_entropy`.
    tolerance: by how much a norm may exceed one; None takes 1e-2 for bfloat16
      and float16, whose rounding moves the norm of a unit row by up to 4e-3,
      and 1e-4 for wider types.
  Raises:
    ValueError: embeddings is not a floating-point matrix, a norm is above one
      or not finite, or ridge is outside (0, 1].
  Source:
    The radius of convergence of log about one. Unit rows are ours: what the
    paper does is not public.
  """
  checks.check_matrix("embeddings", embeddings)
  _check_ridge("taylor", ridge)
  if tolerance is None:
    tolerance = 1e-2 if jnp.finfo(embeddings.dtype).bits < 32 else 1e-4
  squares = token_chunks.squared_norms(embeddings)
  # Comparisons this way round: NaN is refused, and a maximum over devices may
  # lose it.
  too_long = ~(squares <= (1 + tolerance) ** 2)
  if jnp.any(too_long):
    row = int(jnp.argmax(too_long))
    at = jnp.arange(squares.size) == row
    norm = math.sqrt(jnp.sum(jnp.where(at, squares, 0.0)))
    raise ValueError(
      f"embeddings must have rows of norm at most 1 for method='taylor', got"
      f" {norm:.6g} in row {row}: normalise them (normalise_rows), or take"
      " method='lanczos'"
    )


def _check_ridge(method, ridge):
  if method == "taylor" and not 0 < ridge <= 1:
    raise ValueError(
      f"ridge must be in (0, 1] for method='taylor', got {ridge!r}: the series"
      " about 1 diverges beyond"
    )
  if method == "lanczos" and not ridge > 0:
    raise ValueError(
      f"ridge must be positive for method='lanczos', got {ridge!r}: without it"
      " log Q is infinite on targets of probability zero"
    )


def token_matrix_cross_entropy(
  logits,
  targets,
  embeddings,
  *,
  order=4,
  method="taylor",
  ridge=1.0,
  temperature=1.0,
  smoothing=0.0,
  smoothing_signs=None,
  plus_trace=True,
  chunk=None,
):
  """Matrix cross-entropy of every token's prediction, in token embeddings.

      MCE = -tr(P log(Q + ridge I)) [+ tr Q]
      P = sum_i p_i e_i e_i^T,   Q = sum_i q_i e_i e_i^T,
      q = softmax(logits / temperature),
      p = (1 - smoothing) one_hot(target) + smoothing / vocabulary

      taylor   with M = Q + (ridge - 1) I and x_a = M^a e:
               e^T log(Q + ridge I) e
                 ~ sum_{k=1..order} (-1)^(k+1) / k <x_floor(k/2), x_ceil(k/2)>
      lanczos  ||e||^2 sum_j w_j log(theta_j + ridge), Gauss' rule of `order`
               Lanczos steps from e: exact once order reaches the number of
               different eigenvalues of Q

  In products of a language model's head, [tokens, dim] x [dim, vocabulary]:
  Taylor takes 2 ceil(order / 2) for the value and 2 order - 1 (order 1: 2) with
  the gradient in logits (head and cross-entropy take 3); embeddings that have
  a gradient take 3 order more.

  Args:
    logits: [..., vocabulary]. An entry may be -inf, but not all of a token.
    targets: whole numbers in [0, vocabulary), [...].
    embeddings: rows e_i, [vocabulary, dim]; for "taylor" of at most unit norm,
      see `check_token_embeddings`. Under jax.lax.stop_gradient no work is
      done for their gradient.
    order: Taylor terms, or Lanczos steps (no more than dim are taken).
    method: "taylor" or "lanczos".
    ridge: on Q inside the logarithm alone, a number; in (0, 1] for "taylor",
      positive for "lanczos", where eigenvalues of Q below the rank floor of
      `spectrum` (1e-6 of the largest in float32) count as zero: much smaller a
      ridge is not resolved.
    temperature: positive number.
    smoothing: weight of the uniform distribution in the target, in [0, 1).
    smoothing_signs: None takes the uniform part exactly, which costs
      `vocabulary` times a token; else random signs [probes, vocabulary]
      (jax.random.rademacher), which give an unbiased estimate for `probes`
      times a token.
    plus_trace: + sum_i q_i ||e_i||^2, which is 1 for unit rows. The constant
      ridge * dim that tr(Q + ridge I) has besides is left out.
    chunk: most tokens at a time. None: tokens / (4 order), but at least 128;
      from 512 order tokens on, what a chunk needs stays below the logits. The
      slope in the logits, as large as they are, is kept for the backward pass.
  Returns:
    [...] in nats, at least float32. Reverse-mode first derivatives alone. The
    gradient of "lanczos" is that of the logarithm in the same Krylov space:
    of the exact value, up to an error that falls with the order, more slowly
    than the value's.
    Products are taken in the type of embeddings (bfloat16 is not widened, but
    summed in float32), softmax and logarithm in at least float32.
  Raises:
    ValueError: shapes or types that do not fit, order or chunk < 1, an unknown
      method, ridge, temperature or smoothing out of range.
  Source:
    Zhang et al. 2023, https://arxiv.org/abs/2305.17326, their experiment on
    Llemma-7B, of which no program is public: P, Q and + tr Q are recollected
    from the paper. Order, ridge, temperature and smoothing are ours, and so
    are both forms. Gauss' rule after Golub and Meurant 1994, "Matrices, moments
    and quadrature"; its derivative is Daleckii's and Krein's formula (1965) for
    the Jacobi matrix.
  """
  _check_arrays(logits, targets, embeddings)
  checks.check_order(order)
  if method not in METHODS:
    raise ValueError(
      f"method must be one of {', '.join(METHODS)}, got {method!r}"
    )
  _check_ridge(method, ridge)
  checks.check_positive("temperature", temperature)
  if not 0 <= smoothing < 1:
    raise ValueError(f"smoothing must be in [0, 1), got {smoothing!r}")
  if chunk is not None:
    checks.check_count("chunk", chunk)
  vocabulary, dim = embeddings.shape
  if smoothing_signs is not None and (
    jnp.ndim(smoothing_signs) != 2 or smoothing_signs.shape[1] != vocabulary
  ):
    raise ValueError(
      f"smoothing_signs must be [probes, {vocabulary}], got shape"
      f" {jnp.shape(smoothing_signs)}"
    )
  form = token_chunks.Form(
    method,
    min(order, dim) if method == "lanczos" else order,
    float(ridge),
    float(temperature),
    float(smoothing),
    bool(plus_trace),
    chunk,
  )
  values = token_chunks.per_token(
    form,
    logits.reshape(-1, vocabulary),
    targets.reshape(-1),
    smoothing_signs,
    embeddings,
  )
  return values.reshape(targets.shape)


def _check_arrays(logits, targets, embeddings):
  checks.check_matrix("embeddings", embeddings)
  if not jnp.issubdtype(jnp.result_type(logits), jnp.floating):
    raise ValueError(
      f"logits must be floating point, got {jnp.result_type(logits)}"
    )
  if not jnp.issubdtype(jnp.result_type(targets), jnp.integer):
    raise ValueError(
      f"targets must be whole numbers, got {jnp.result_type(targets)}"
    )
  expected = (*jnp.shape(targets), embeddings.shape[0])
  if jnp.shape(logits) != expected or 0 in expected:
    raise ValueError(
      "logits must be [..., vocabulary] of targets and embeddings,"
      f" {expected}, and not empty, got shape {jnp.shape(logits)}"
    )
