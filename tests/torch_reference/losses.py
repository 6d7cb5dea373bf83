"""The losses of masked and two-view methods, from their formulas.

Dense and slow on purpose: whole matrices of cosines, matrix powers, loops over
pairs of views. Each has the arguments of the loss of ours that it is named
after; `.detach()` stands where no gradient goes.
"""

import math

import torch
from torch.nn import functional


def unit(z):
  """Rows of unit length."""
  return functional.normalize(z, dim=-1, eps=1e-12)


# --- masked


def reconstruction_errors(prediction, patches, mask):
  """Mean squared error of each image's removed patches, each normalised."""
  mean = patches.mean(dim=-1, keepdim=True)
  variance = patches.var(dim=-1, keepdim=True)  # by n - 1
  target = (patches - mean) / (variance + 1e-6).sqrt()
  errors = (prediction - target).square().mean(dim=-1)
  return (errors * mask).sum(dim=1) / mask.sum(dim=1)


def mae(errors):
  """Mean over the images."""
  return errors.mean()


def umae(errors, features, *, weight):
  """MAE and the mean squared cosine, the diagonal included."""
  z = unit(features)
  return errors.mean() + weight * (z @ z.T).square().mean()


def mmae(errors, features, *, weight, scale, centre, normaliser):
  """MAE less log det(I + mu/d Z'Z), or log det(mu I + Z'Z)."""
  z = unit(features)
  if centre:
    z = z - z.mean(0)
  batch, dim = z.shape
  eye = torch.eye(dim, dtype=z.dtype)
  matrix = {
    "feature_dim": eye + scale / dim * z.T @ z,
    "batch": eye + scale / batch * z.T @ z,
    "paper": scale * eye + z.T @ z,
  }[normaliser]
  return errors.mean() - weight * torch.logdet(matrix)


# --- two views


def simclr(z1, z2, *, temperature):
  """Cross-entropy of the other view among the 2B - 1 others."""
  z = torch.cat([unit(z1), unit(z2)])
  logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
  batch = len(z1)
  other = torch.cat([torch.arange(batch, 2 * batch), torch.arange(batch)])
  return functional.cross_entropy(logits, other)


def byol(p1, p2, z1, z2):
  """2 - 2 cos in both directions."""
  first = (unit(p1) * unit(z2).detach()).sum(1).mean()
  second = (unit(p2) * unit(z1).detach()).sum(1).mean()
  return 4 - 2 * first - 2 * second


def simsiam(p1, p2, z1, z2):
  """Minus the mean of both cosines."""
  first = (unit(p1) * unit(z2.detach())).sum(1).mean()
  return -(first + (unit(p2) * unit(z1.detach())).sum(1).mean()) / 2


def barlow_twins(z1, z2, *, off_diagonal_weight):
  """Squares of C - I, the off-diagonal ones weighted."""
  x1, x2 = (
    functional.batch_norm(z, None, None, training=True, eps=1e-5)
    for z in (z1, z2)
  )
  c = x1.T @ x2 / len(z1)
  weights = torch.full_like(c, off_diagonal_weight).fill_diagonal_(1)
  eye = torch.eye(len(c), dtype=c.dtype)
  return (weights * (c - eye).square()).sum()


def vicreg(z1, z2, *, invariance, variance, covariance):
  """Variance, invariance, covariance."""
  loss = invariance * functional.mse_loss(z1, z2)
  for z in (z1, z2):
    v = torch.cov(z.T)
    deviation = (torch.diagonal(v) + 1e-4).sqrt()
    loss = loss + variance * functional.relu(1 - deviation).mean() / 2
    off = v - torch.diag(torch.diagonal(v))
    loss = loss + covariance * off.square().sum() / z.shape[1]
  return loss


def spectral_contrastive(z1, z2, *, squared_radius):
  """Mean products of pairs, mean squared products of all others."""

  def clipped(z):
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    is_short = length.detach() < math.sqrt(squared_radius)
    return torch.where(is_short, z, math.sqrt(squared_radius) * unit(z))

  z1, z2 = clipped(z1), clipped(z2)
  products = z1 @ z2.T
  batch = len(z1)
  others = ~torch.eye(batch, dtype=torch.bool)
  repulsion = products[others].square().sum() / (batch * (batch - 1))
  return (repulsion - 2 * torch.diagonal(products).mean()) / squared_radius


def mec(p1, p2, z1, z2, *, lambda_inverse, order):
  """Taylor polynomial of log det(I + C), on [B, B] matrices."""

  def of_pair(z, p):
    c = unit(z) @ unit(p.detach()).T / lambda_inverse
    eye = torch.eye(len(c), dtype=c.dtype)
    if order is None:
      return torch.logdet(eye + c)
    terms = [
      (-1) ** (k + 1) / k * torch.trace(torch.linalg.matrix_power(c, k))
      for k in range(1, order + 1)
    ]
    return sum(terms)

  return -lambda_inverse / len(z1) * (of_pair(z1, p2) + of_pair(z2, p1)) / 2


def matrix_ssl(
  p1, p2, z1, z2, *, uniformity, ridge, gamma, order, form, symmetrise
):
  """Matrix cross-entropies with the Taylor logarithm, on [d, d] matrices."""
  batch, dim = z1.shape
  eye = torch.eye(dim, dtype=z1.dtype)
  centring = torch.eye(batch, dtype=z1.dtype) - 1 / batch

  def covariance(a, b):
    return a.T @ centring @ b / batch

  def logarithm(q):
    return sum(
      (-1) ** (k + 1) / k * torch.linalg.matrix_power(q - eye, k)
      for k in range(1, order + 1)
    )

  total = 0.0
  for p, z in ((p2, z1), (p1, z2)):
    p, z = unit(p.detach()), unit(z)
    cross = covariance(p, z)
    if symmetrise:
      cross = (cross + cross.T) / 2
    cross = cross + ridge * eye
    own = covariance(z, z) + ridge * eye
    target = covariance(p, p) + ridge * eye
    spread = -torch.trace(logarithm(cross))
    match = -torch.trace(target @ logarithm(own))
    if form == "paper":
      spread = (1 / dim + ridge) * spread + torch.trace(cross)
      match = match + torch.trace(own)
    total = total + (uniformity * spread + gamma * match) / 2
  return total


def moco_v2(queries, keys, queue, *, temperature):
  """Cross-entropy of the key among itself and the queue."""
  q, k, n = unit(queries), unit(keys).detach(), unit(queue).detach()
  positive = (q * k).sum(1, keepdim=True)
  logits = torch.cat([positive, q @ n.T], dim=1) / temperature
  return functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def moco_v3(q1, q2, k1, k2, *, temperature):
  """2 t times the cross-entropy of the key in the batch, both directions."""
  own = torch.arange(len(q1))
  return sum(
    2
    * temperature
    * functional.cross_entropy(unit(q) @ unit(k).detach().T / temperature, own)
    for q, k in ((q1, k2), (q2, k1))
  )
