"""Matrix cross-entropy of tokens, chunk by chunk, with its derivative.

The slope in the logits comes with the values, as large as the logits and in
their type: going over the chunks again would repeat every product. That in the
embeddings, of which most callers want none, does go over them again.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmae_jax.information import krylov_log, spectra

_LEAST_CHUNK = 128  # tokens; fewer rows leave matrix units of a device idle


class Form(NamedTuple):
  """What does not depend on the arrays; hashable."""

  method: str
  order: int
  ridge: float
  temperature: float
  smoothing: float
  plus_trace: bool
  chunk: int | None


def squared_norms(embeddings):
  """||e_i||^2 of every row, at least float32."""
  wide = jnp.promote_types(embeddings.dtype, jnp.float32)
  return jnp.sum(jnp.square(embeddings.astype(wide)), axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def per_token(form, logits, targets, signs, embeddings):
  """The value of every token, [tokens]."""
  fixed = _fixed(form, signs, embeddings)
  chunk = functools.partial(_of_chunk, form, fixed)
  return _map_chunks(form, chunk, logits, targets)[0]


def _forward(form, logits, targets, signs, embeddings):
  """Values, and at once their slope in the logits: no product is repeated."""
  attached = embeddings.perturbed
  logits, targets, embeddings = logits.value, targets.value, embeddings.value
  signs = None if signs is None else signs.value
  fixed = _fixed(form, signs, embeddings)
  chunk = functools.partial(_of_chunk, form, fixed, with_slope=True)
  values, slope = _map_chunks(form, chunk, logits, targets)
  rest = (logits, targets, signs, embeddings) if attached else None
  return values, (slope, rest)


def _backward(form, residuals, cotangent):
  slope, rest = residuals
  by_logits = (cotangent[:, None] * slope).astype(slope.dtype)
  if rest is None:
    return by_logits, None, None, None
  logits, targets, signs, embeddings = rest
  fixed = _fixed(form, signs, embeddings)
  parts = _fold(form, logits, targets, cotangent)
  add = lambda j, total: (
    total + _by_embeddings(form, fixed, signs, *_part(parts, j))
  )
  wide = jnp.promote_types(embeddings.dtype, jnp.float32)
  total = jnp.zeros(embeddings.shape, wide)
  total = jax.lax.fori_loop(0, parts[0].shape[1], add, total)
  return by_logits, None, None, total.astype(embeddings.dtype)


per_token.defvjp(_forward, _backward, symbolic_zeros=True)


def _fold(form, *arrays):
  """[tokens, ...] -> [tokens of a chunk, chunks, ...], padded with zeros.

  A chunk is every so many-th token: tokens that are split over devices stay
  where they are.
  """
  tokens = arrays[0].shape[0]
  largest = form.chunk or max(_LEAST_CHUNK, -(-tokens // (4 * form.order)))
  least = -(-tokens // largest)
  # Without padding, where a few chunks more allow it: it is a copy.
  whole = (n for n in range(least, 2 * least) if tokens % n == 0)
  count = next(whole, least)
  padding = -tokens % count
  if padding:
    arrays = [
      jnp.pad(a, [(0, padding)] + [(0, 0)] * (a.ndim - 1)) for a in arrays
    ]
  return [a.reshape(-1, count, *a.shape[1:]) for a in arrays]


def _part(folded, index):
  return [
    jax.lax.dynamic_index_in_dim(a, index, 1, keepdims=False) for a in folded
  ]


def _map_chunks(form, chunk, *arrays):
  """chunk(...) of all tokens, written into its place chunk by chunk."""
  folded = _fold(form, *arrays)
  size, count = folded[0].shape[:2]
  shapes = jax.eval_shape(chunk, *_part(folded, 0))
  results = [jnp.zeros((size, count, *s.shape[1:]), s.dtype) for s in shapes]

  def step(j, results):
    return [
      jax.lax.dynamic_update_index_in_dim(all_, one, j, 1)
      for all_, one in zip(results, chunk(*_part(folded, j)), strict=True)
    ]

  results = jax.lax.fori_loop(0, count, step, results)
  tokens = arrays[0].shape[0]
  return [r.reshape(-1, *r.shape[2:])[:tokens] for r in results]


def _probabilities(form, logits):
  return jax.nn.softmax(spectra.widen(logits) / form.temperature, axis=-1)


class _Fixed(NamedTuple):
  """What all chunks share.

  Attributes:
    embeddings: [vocabulary, dim].
    own_weight: of the targets' e e^T in P.
    shared, shared_weight: rows z, [vectors, dim], whose z z^T are the uniform
      part of P, and their weight; None without smoothing.
    squares: ||e_i||^2, or None.
  """

  embeddings: jax.Array
  own_weight: float
  shared: jax.Array | None
  shared_weight: float
  squares: jax.Array | None


def _fixed(form, signs, embeddings):
  squares = squared_norms(embeddings) if form.plus_trace else None
  weight = form.smoothing / embeddings.shape[0]
  shared = embeddings if form.smoothing else None
  if form.smoothing and signs is not None:
    shared = krylov_log.product("pv,vd->pd", signs, embeddings)
    weight = weight / signs.shape[0]
  return _Fixed(embeddings, 1 - form.smoothing, shared, weight, squares)


def _own(fixed, targets):
  return spectra.widen(jnp.take(fixed.embeddings, targets, axis=0))


def _of_chunk(form, fixed, logits, targets, *, with_slope=False):
  """[values] of a chunk; [values, slope in the logits]."""
  q = _probabilities(form, logits)
  own, embeddings = _own(fixed, targets), fixed.embeddings

  def of(start, weight):
    krylov = krylov_log.krylov(form, q, start, embeddings, with_slope)
    if not with_slope:
      return [-weight * krylov.value]
    slope = sum(
      s * m for s, m in zip(krylov.scores, krylov.mixed(), strict=True)
    )
    return [-weight * krylov.value, -weight * slope]

  total = of(own, fixed.own_weight)
  if fixed.shared is not None:

    def add(total, vector):
      start = jnp.broadcast_to(spectra.widen(vector), own.shape)
      more = of(start, fixed.shared_weight)
      return jax.tree.map(jnp.add, total, more), None

    total, _ = jax.lax.scan(add, total, fixed.shared)
  if form.plus_trace:
    total[0] = total[0] + jnp.sum(q * fixed.squares, axis=1)
    if with_slope:
      total[1] = total[1] + fixed.squares
  if with_slope:
    mean = jnp.sum(q * total[1], axis=1, keepdims=True)
    slope = q * (total[1] - mean) / form.temperature
    total[1] = slope.astype(logits.dtype)
  return total


def _by_embeddings(form, fixed, signs, logits, targets, cotangent):
  """Gradient of sum_t cotangent_t value_t of a chunk in the embeddings."""
  q = _probabilities(form, logits)
  own, embeddings = _own(fixed, targets), fixed.embeddings
  product = functools.partial(krylov_log.product, like=embeddings)

  def of(start, weight):
    """Through Q, [vocabulary, dim], and through the start, [tokens, dim]."""
    krylov = krylov_log.krylov(form, q, start, embeddings, True)
    scale = -2 * weight * cotangent[:, None]
    through_q = sum(
      product("tv,td->vd", scale * q * m, x)
      for m, x in zip(krylov.mixed(), krylov.vectors, strict=True)
    )
    return through_q, scale * krylov.image

  total, by_own = of(own, fixed.own_weight)
  total = total.at[targets].add(by_own)
  if fixed.shared is not None:

    def add(total, vector):
      start = jnp.broadcast_to(spectra.widen(vector), own.shape)
      through_q, by_start = of(start, fixed.shared_weight)
      return total + through_q, jnp.sum(by_start, axis=0)

    total, by_shared = jax.lax.scan(add, total, fixed.shared)
    total = total + (
      by_shared if signs is None else product("pv,pd->vd", signs, by_shared)
    )
  if form.plus_trace:
    total = total + 2 * jnp.sum(cotangent[:, None] * q, axis=0)[:, None] * (
      embeddings.astype(total.dtype)
    )
  return total
