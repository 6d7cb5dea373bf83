"""Matrix entropies, divergences and coding rates, from their formulas.

Each has the arguments of the function of mmae_jax.information that it is named
after. Logarithms of matrices are taken through all eigenvalues.
"""

import math

import torch

from torch_reference.losses import unit


def matrix_entropy(k, *, order):
  """log tr(K / tr K)^a / (1 - a), and its limits at 1 and infinity."""
  k = k / torch.trace(k)
  if order == 2:
    return -k.square().sum().log()
  p = torch.linalg.eigvalsh(k.detach()).clamp(min=0)
  if order == 1:
    return -torch.special.xlogy(p, p).sum()
  if math.isinf(order):
    return -p.max().log()
  return (p**order).sum().log() / (1 - order)


def joint_entropy(k1, k2, *, order):
  """That of the Hadamard product."""
  return matrix_entropy(k1 * k2, order=order)


def mutual_information(k1, k2, *, order):
  """Both entropies less the joint one."""
  alone = matrix_entropy(k1, order=order) + matrix_entropy(k2, order=order)
  return alone - joint_entropy(k1, k2, order=order)


def conditional_entropy(k1, k2, *, order):
  """The joint entropy less that of the second."""
  joint = joint_entropy(k1, k2, order=order)
  return joint - matrix_entropy(k2, order=order)


def effective_rank(z):
  """exp of the entropy of the second moment of unit rows."""
  z = unit(z.detach())
  return matrix_entropy(z.T @ z, order=1).exp()


def _log(a):
  w, v = torch.linalg.eigh((a + a.T) / 2)
  return v @ torch.diag(w.log()) @ v.T


def unnormalised_entropy(a):
  """-tr(A log A) + tr A."""
  return torch.trace(a - a @ _log(a))


def matrix_cross_entropy(p, q, *, plus_trace, method, order=None):
  """-tr(P log Q), + tr Q."""
  if method == "eigh":
    log = _log(q)
  else:
    eye = torch.eye(len(q), dtype=q.dtype)
    log = sum(
      (-1) ** (k + 1) / k * torch.linalg.matrix_power(q - eye, k)
      for k in range(1, order + 1)
    )
  value = -torch.trace(p @ log)
  return value + torch.trace(q) if plus_trace else value


def matrix_kl(p, q):
  """tr(P log P - P log Q - P + Q)."""
  return torch.trace(p @ _log(p) - p @ _log(q) - p + q)


def total_coding_rate(z, *, epsilon_squared):
  """1/2 log det(I + d / (B epsilon^2) Z'Z)."""
  z = unit(z)
  batch, dim = z.shape
  eye = torch.eye(dim, dtype=z.dtype)
  return torch.logdet(eye + dim / (batch * epsilon_squared) * z.T @ z) / 2


def spectral_loss(z1, z2, *, weight):
  """Squared distances of pairs, squared products of all others."""
  z1, z2 = unit(z1), unit(z2)
  products = (z1 @ z2.T).square()
  others = products.sum() - torch.trace(products)
  return (z1 - z2).square().sum() + weight * others


def barlow_loss(z1, z2, *, weight):
  """Squares of C - I on exact correlations."""
  x1, x2 = (unit((z - z.mean(0)).T).T for z in (z1, z2))
  c = x1.T @ x2
  off = c.square().sum() - torch.diagonal(c).square().sum()
  return (1 - torch.diagonal(c)).square().sum() + weight * off
