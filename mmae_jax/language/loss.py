"""Cross-entropy, and matrix cross-entropy beside it, on response tokens.

Pure functions of arrays; the matrix terms are in `mmae_jax.information`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.types import UsageError

_METHODS = ("taylor", "lanczos")
_FORMS = ("token", "relation")
_EMBEDDINGS = ("input", "output")


class MatrixTerm(NamedTuple):
  """How the matrix cross-entropy is taken; every default is ours.

  The paper's text is not at hand (shared recollection: weight 1, P and Q of the
  pre-trained token vectors); what it does about each of these is unknown.

  Attributes:
    weight: of the matrix term beside cross-entropy; 0 leaves plain
      cross-entropy, bit for bit.
    form: "token", P and Q of each position from token vectors; or "relation",
      Gram matrices of targets and of predictions, as in RelationMatch (arXiv
      2305.10397). What a batch would be for a language model is unknown; here
      it is the response tokens of one sequence.
    embeddings: "input" or "output" vectors of the tokens.
    detached: whether the vectors are constants of the term.
    unit_norm: whether the vectors are divided by their norms.
    ridge: added to Q, times the identity, inside the logarithm.
    order: of the Taylor polynomial, or steps of Lanczos.
    method: "taylor" or "lanczos".
    temperature: of the softmax that makes q; with form "relation" of the
      exponential of the Gram matrices.
    smoothing: share of the target that is spread over the vocabulary.
    smoothing_probes: random signs that estimate that share's term; 0 takes it
      exactly, which costs the vocabulary's size times a token.
    plus_trace: whether tr Q is added.
    chunk: tokens at a time; 0 chooses, so that memory is bounded. It changes
      memory, not the loss.
  """

  weight: float = 1.0
  form: str = "token"
  embeddings: str = "input"
  detached: bool = True
  unit_norm: bool = True
  ridge: float = 1.0
  order: int = 4
  method: str = "taylor"
  temperature: float = 1.0
  smoothing: float = 0.0
  smoothing_probes: int = 0
  plus_trace: bool = True
  chunk: int = 0


def read_term(config, weight: float) -> MatrixTerm:
  """The term that `config.loss` describes, checked.

  Args:
    config: `config.loss`; its keys are those of `MatrixTerm`, and `weights`.
    weight: one of the weights that are compared.
  Returns:
    The term.
  Raises:
    UsageError: a value that no loss can use.
  """
  options = {name: config[name] for name in MatrixTerm._fields[1:]}
  term = MatrixTerm(weight=float(weight), **options)
  taylor, relation = term.method == "taylor", term.form == "relation"
  for name, ok, expected in (
    ("weights", term.weight >= 0, "at least 0"),
    ("form", term.form in _FORMS, " or ".join(_FORMS)),
    ("embeddings", term.embeddings in _EMBEDDINGS, " or ".join(_EMBEDDINGS)),
    ("method", term.method in _METHODS, " or ".join(_METHODS)),
    ("order", term.order >= 1, "at least 1"),
    ("ridge", term.ridge > 0, "positive"),
    (
      "ridge",
      not taylor or term.ridge <= 1,
      "in (0, 1] with --config.loss.method=taylor, whose series needs it",
    ),
    (
      "unit_norm",
      not taylor or term.unit_norm or relation,
      "True with --config.loss.method=taylor: longer vectors make matrices of"
      " norm above 1, where the series diverges (or --config.loss.method="
      "lanczos)",
    ),
    ("temperature", term.temperature > 0, "positive"),
    ("smoothing", 0 <= term.smoothing < 1, "in [0, 1)"),
    (
      "method",
      taylor or not relation,
      "taylor with --config.loss.form=relation",
    ),
    (
      "smoothing",
      not (term.smoothing and relation),
      "0 with --config.loss.form=relation",
    ),
    ("smoothing_probes", term.smoothing_probes >= 0, "at least 0"),
    ("chunk", term.chunk >= 0, "at least 0"),
  ):
    if not ok:
      value = config[name]
      raise UsageError(f"--config.loss.{name}={value}: must be {expected}")
  return term


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Cross-entropy of the target tokens, -log q_y.

  Args:
    logits: [..., vocabulary].
    targets: int [...].
  Returns:
    [...] in nats, at least float32.
  """
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - chosen


def token_losses(
  logits: jax.Array,
  tokens: jax.Array,
  response: jax.Array,
  vectors: jax.Array | None,
  term: MatrixTerm,
  *,
  signs: jax.Array | None = None,
) -> dict[str, jax.Array]:
  """Every term of the loss at every position, before the mean.

  The logits of a position predict the token of the next one.

  Args:
    logits: [batch, length, vocabulary].
    tokens: int32 [batch, length].
    response: bool [batch, length]; True is learned.
    vectors: the token vectors, [vocabulary, width]; None without the term.
    term: how the matrix term is taken.
    signs: random signs, [smoothing_probes, vocabulary]; None without probes.
  Returns:
    {"ce"} and, unless the weight is 0, {"mce"}: [batch, length - 1] in nats.
  """
  logits, targets = logits[:, :-1], tokens[:, 1:]
  losses = {"ce": cross_entropy(logits, targets)}
  if term.weight and term.form == "token":
    losses["mce"] = information.token_matrix_cross_entropy(
      logits,
      targets,
      prepared(vectors, term),
      order=term.order,
      method=term.method,
      ridge=term.ridge,
      temperature=term.temperature,
      smoothing=term.smoothing,
      smoothing_signs=signs,
      plus_trace=term.plus_trace,
      chunk=term.chunk or None,
    )
  elif term.weight:
    of_sequence = functools.partial(
      information.relation_matrix_cross_entropy,
      order=term.order,
      ridge=term.ridge,
      temperature=term.temperature,
      plus_trace=term.plus_trace,
    )
    values = jax.vmap(lambda x, y, on: of_sequence(x, y, mask=on))(
      logits, targets, response[:, 1:]
    )
    # The mean over response tokens then weighs a sequence by its own.
    losses["mce"] = jnp.broadcast_to(values[:, None], targets.shape)
  return losses


def prepared(vectors: jax.Array, term: MatrixTerm) -> jax.Array:
  """The token vectors as the matrix term takes them.

  Args:
    vectors: [vocabulary, width].
    term: says whether they are detached and of unit norm.
  Returns:
    [vocabulary, width], in the type of the vectors, which decides that of the
    products; a zero vector stays zero.
  """
  if term.detached:
    vectors = jax.lax.stop_gradient(vectors)
  if not term.unit_norm:
    return vectors
  return information.normalise_rows(vectors).astype(vectors.dtype)


def smoothing_signs(key, vocabulary: int, term: MatrixTerm) -> jax.Array | None:
  """New random signs for the smoothed target, if the term has probes.

  Args:
    key: of the step.
    vocabulary: the number of tokens.
    term: how the matrix term is taken.
  Returns:
    [smoothing_probes, vocabulary], or None.
  """
  if not (term.weight and term.smoothing and term.smoothing_probes):
    return None
  return jax.random.rademacher(
    key, (term.smoothing_probes, vocabulary), jnp.float32
  )


def response_sums(
  logits: jax.Array,
  tokens: jax.Array,
  response: jax.Array,
  vectors: jax.Array | None,
  term: MatrixTerm,
  *,
  signs: jax.Array | None = None,
) -> dict[str, jax.Array]:
  """Sums over response tokens, which micro-batches may add.

  Args:
    logits: [batch, length, vocabulary].
    tokens: int32 [batch, length].
    response: bool [batch, length]; True is learned, what is elsewhere has no
      influence.
    vectors: the token vectors, [vocabulary, width]; None without the term.
    term: how the matrix term is taken.
    signs: random signs, [smoothing_probes, vocabulary]; None without probes.
  Returns:
    {"ce", and with a weight "mce"}: scalars in nats; {"tokens"}: their number.
  """
  losses = token_losses(logits, tokens, response, vectors, term, signs=signs)
  learned = response[:, 1:]
  sums = {
    name: jnp.sum(jnp.where(learned, value, 0))
    for name, value in losses.items()
  }
  return sums | {"tokens": jnp.sum(learned)}


def from_sums(
  sums: dict[str, jax.Array], term: MatrixTerm
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """CE + weight * MCE, means over the response tokens.

  Args:
    sums: of `response_sums`, of the whole batch.
    term: how the matrix term is taken.
  Returns:
    (scalar in nats, {"ce", and with a weight "mce"}: scalars in nats); 0 where
    there is no response at all.
  """
  count = jnp.maximum(sums["tokens"], 1)
  means = {k: total / count for k, total in sums.items() if k != "tokens"}
  if not term.weight:
    return means["ce"], means
  return means["ce"] + term.weight * means["mce"], means
