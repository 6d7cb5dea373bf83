"""Entropy and reconstruction of class distributions, in log-sum-exp form."""

import math

import jax
import jax.numpy as jnp

from mmae_jax.information import checks, spectra


def _check_epsilon(epsilon):
  if epsilon is not None:
    checks.check_positive("epsilon", epsilon)


def _log_of(log_p, epsilon):
  """log p, or log(p + epsilon) as the authors' program has it."""
  return log_p if epsilon is None else jnp.log(jnp.exp(log_p) + epsilon)


def categorical_entropy(logits, *, epsilon=None):
  """Entropy of the mean class distribution of a batch.

      H(P) = -sum_w P_w log P_w,   P = mean_i softmax(logits_i)
      log P_w = logsumexp_i(log_softmax(logits_i)_w) - log batch

  On i.i.d. rows it underestimates the entropy of the true mean distribution
  (entropy is concave), so the ER estimate is a lower bound in expectation.

  Args:
    logits: [batch, classes]; divide by a temperature before.
    epsilon: None, or the number that the authors' program adds to P inside the
      logarithm, 1e-7. With it one-hot rows of one class give -1e-7, and 65536
      uniform classes 11.0838 instead of log 65536 = 11.0904.
  Returns:
    Scalar in nats, at least float32; without epsilon 0 <= H <= log classes.
  Raises:
    ValueError: logits is not a floating-point matrix or epsilon <= 0.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907; reduction
    "expectation" of their program. Its "average" is not an entropy.
  """
  checks.check_matrix("logits", logits)
  _check_epsilon(epsilon)
  log_p = jax.nn.log_softmax(spectra.widen(logits), axis=1)
  log_mean = jax.nn.logsumexp(log_p, axis=0) - math.log(log_p.shape[0])
  return -jnp.sum(jnp.exp(log_mean) * _log_of(log_mean, epsilon))


def categorical_reconstruction(
  student_logits, target_logits, *, symmetric=True, epsilon=None
):
  """Reconstruction loss of class distributions: a cross-entropy.

      CE(p, q) = -mean_i sum_w p_iw log q_iw
      symmetric:  (CE(target, student) + CE(student, target)) / 2
      one-sided:  CE(target, student)

  The gradient goes through both arguments; callers stop that of a target.

  Args:
    student_logits: [batch, classes]; divide by a temperature before.
    target_logits: [batch, classes]; centre and divide before.
    symmetric: the mean of both directions, as in the authors' program.
    epsilon: None, or the number that the authors' program adds to the
      probability inside the logarithm, 1e-7.
  Returns:
    Scalar in nats, at least float32, at least zero without epsilon.
  Raises:
    ValueError: an argument is not a floating-point matrix, the shapes differ,
      or epsilon <= 0.
  Source:
    Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907; one-sided,
    the loss of DINO and of SwAV in one direction.
  """
  checks.check_same_shape(
    student_logits=student_logits, target_logits=target_logits
  )
  _check_epsilon(epsilon)
  student = jax.nn.log_softmax(spectra.widen(student_logits), axis=1)
  target = jax.nn.log_softmax(spectra.widen(target_logits), axis=1)

  def cross_entropy(log_p, log_q):
    terms = jnp.exp(log_p) * _log_of(log_q, epsilon)
    return -jnp.mean(jnp.sum(terms, axis=1))

  if not symmetric:
    return cross_entropy(target, student)
  return (cross_entropy(target, student) + cross_entropy(student, target)) / 2
