"""z^T log(Q) z and its derivatives from products with Q = E^T diag(q) E alone.

Both forms end with vectors x_a of a Krylov space, their scores s_a = E x_a and
a small matrix C, with which

    d z^T log(Q) z = sum_i dq_i sum_ab C_ab s_ai s_bi,

because the derivative of the logarithm in the direction of z z^T is
sum_ab C_ab x_a x_b^T: exactly for a polynomial, as a Krylov approximation for
the logarithm itself.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmae_jax.information import lanczos, logarithm


class Krylov(NamedTuple):
  """Of starts z_t and probabilities q_t, t = 1 ... tokens.

  Attributes:
    value: z^T log(Q + ridge I) z, [tokens].
    vectors: x_a, [tokens, dim] each; these and all that follow are empty or
      None if only the value was asked for.
    scores: s_a = E x_a, [tokens, vocabulary] each.
    core: C, a nested list of numbers or of [tokens] arrays.
    image: log(Q + ridge I) z, [tokens, dim].
  """

  value: jax.Array
  vectors: Any = ()
  scores: Any = ()
  core: Any = ()
  image: Any = None

  def mixed(self):
    """sum_a C_ab s_a for every b, [tokens, vocabulary] each."""
    return [
      sum(
        _column(c) * s
        for c, s in zip(row, self.scores, strict=True)
        if not (isinstance(c, float) and c == 0)
      )
      for row in self.core
    ]


def _column(c):
  return c if isinstance(c, float) else c[:, None]


def product(legend, a, b, *, like=None):
  """An einsum in the type of the embeddings, summed in at least float32.

  Args:
    legend: of jnp.einsum.
    a, b: the arrays; without `like`, b are the embeddings.
    like: an array of the type to multiply in.
  Returns:
    At least float32. bfloat16 is multiplied as it is.
  """
  dtype = (b if like is None else like).dtype
  return jnp.einsum(
    legend,
    a.astype(dtype),
    b.astype(dtype),
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.promote_types(dtype, jnp.float32),
  )


def krylov(form, q, start, embeddings, with_derivative):
  """The quadratic form of log(Q + ridge I), by the form's method.

  Args:
    form: has `method`, `order` and `ridge`.
    q: probabilities, [tokens, vocabulary].
    start: z, [tokens, dim].
    embeddings: E, [vocabulary, dim].
    with_derivative: False leaves all but the value out.
  Returns:
    A `Krylov`.
  """
  method = {"taylor": _taylor, "lanczos": _lanczos}[form.method]
  return method(form, q, start, embeddings, with_derivative)


def _taylor(form, q, start, embeddings, with_derivative):
  order, shift = form.order, form.ridge - 1.0
  coefficients = [(-1) ** (k + 1) / k for k in range(1, order + 1)]
  x, scores = [start], []
  # <x_a, x_b> = z^T M^(a + b) z: half of the powers reach every term.
  for _ in range(order if with_derivative else (order + 1) // 2):
    scores.append(product("td,vd->tv", x[-1], embeddings))
    image = product("tv,vd->td", q * scores[-1], embeddings)
    x.append(image + shift * x[-1] if shift else image)
  value = sum(
    c * jnp.sum(x[k // 2] * x[k - k // 2], axis=1)
    for k, c in enumerate(coefficients, start=1)
  )
  if not with_derivative:
    return Krylov(value)
  # d M^k = sum_{a + b = k - 1} M^a dM M^b.
  core = [
    [coefficients[a + b] if a + b < order else 0.0 for a in range(order)]
    for b in range(order)
  ]
  image = sum(c * v for c, v in zip(coefficients, x[1:], strict=True))
  return Krylov(value, x[:-1], scores, core, image)


def _lanczos(form, q, start, embeddings, with_derivative):
  squared = jnp.sum(start * start, axis=1)
  length = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
  weights = q.T  # a column is a token, as in `lanczos`

  def apply(v):
    scores = product("vd,dt->vt", embeddings, v, like=embeddings)
    return product("vd,vt->dt", embeddings, weights * scores, like=embeddings)

  diagonal, coupling, basis = lanczos.tridiagonal(
    apply, (start / length[:, None]).T, form.order
  )
  # Of Q without its ridge: then no eigenvalue is lost to the rank floor.
  nodes, vectors = lanczos.jacobi_nodes(diagonal, coupling[:, :-1])
  shifted = nodes + form.ridge
  first = vectors[:, 0, :]
  value = squared * jnp.sum(first**2 * jnp.log(shifted), axis=1)
  if not with_derivative:
    return Krylov(value)
  # t token, i j eigenvalue, a b step, d dimension.
  einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  quotient = logarithm.log_quotient(shifted[:, :, None], shifted[:, None, :])
  inner = quotient * first[:, :, None] * first[:, None, :]
  core = einsum("tai,tij,tbj->abt", vectors, inner, vectors) * squared
  image = einsum("tai,ti->at", vectors, first * jnp.log(shifted)) * length
  x = basis.transpose(0, 2, 1)
  scores = product("atd,vd->atv", x, embeddings)
  rows = [list(row) for row in core]
  image = einsum("at,atd->td", image, x)
  return Krylov(value, list(x), list(scores), rows, image)
