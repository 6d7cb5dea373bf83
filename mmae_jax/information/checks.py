"""Checks of arguments, from shapes and hyperparameters alone."""

import jax
import jax.numpy as jnp


def check_matrix(name, x):
  """Raises ValueError unless x is a floating-point matrix with entries."""
  if jnp.ndim(x) != 2:
    raise ValueError(
      f"{name} must be a matrix [rows, columns], got shape {jnp.shape(x)}"
    )
  if 0 in jnp.shape(x):
    raise ValueError(f"{name} has no entries: shape {jnp.shape(x)}")
  if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
    raise ValueError(
      f"{name} must be floating point, got {jnp.result_type(x)}: cast it first"
    )


def check_square(name, k):
  """Raises ValueError unless k is a square floating-point matrix."""
  check_matrix(name, k)
  if k.shape[0] != k.shape[1]:
    raise ValueError(f"{name} must be square, got shape {jnp.shape(k)}")


def check_same_shape(**matrices):
  """Raises ValueError unless the named matrices have one shape."""
  for name, x in matrices.items():
    check_matrix(name, x)
  (name, x), *others = matrices.items()
  for other, y in others:
    if jnp.shape(y) != jnp.shape(x):
      raise ValueError(
        f"{other} must have the shape of {name}, {jnp.shape(x)}, got"
        f" {jnp.shape(y)}"
      )


def check_positive(name, value):
  """Raises ValueError unless a hyperparameter is positive.

  A traced one, such as the value of a schedule, is not known yet.
  """
  if not isinstance(value, jax.core.Tracer) and not value > 0:
    raise ValueError(f"{name} must be positive, got {value!r}")


def check_not_negative(name, value):
  """Raises ValueError where a hyperparameter is known to be negative."""
  if not isinstance(value, jax.core.Tracer) and not value >= 0:
    raise ValueError(f"{name} must not be negative, got {value!r}")


def check_rows(name, x, *, least=2):
  """Raises ValueError where a matrix has too few rows for a statistic."""
  if jnp.shape(x)[0] < least:
    raise ValueError(
      f"{name} must have at least {least} rows, got shape {jnp.shape(x)}"
    )


def check_order(order):
  """Raises ValueError unless order is a whole number of terms, at least 1."""
  if isinstance(order, bool) or not isinstance(order, int) or order < 1:
    raise ValueError(f"order must be a whole number >= 1, got {order!r}")


def check_count(name, value, *, least=1):
  """Raises ValueError unless value is a whole number, at least `least`."""
  whole = isinstance(value, int) and not isinstance(value, bool)
  if not whole or value < least:
    raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
