"""The ER losses and those of classes, from their formulas.

As in losses.py: dense, slow, loops over pairs of views.
"""

import math

import torch
from torch.nn import functional

from torch_reference import losses

GLOBALS = 2  # views that become targets


# --- entropy and reconstruction


def _kernel_entropy(z, kappa, estimator, scope):
  """Entropy by a kernel density, less its constant."""
  z, found = losses.unit(z), []
  for group in z.split(scope or len(z)):
    density = torch.exp(kappa * (group @ group.T)).mean(1)
    if estimator == "joe":
      weights = torch.full_like(density, 1 / len(group))
    else:
      weights = density / density.sum()
    found.append(-(weights * density.log()).sum())
  return torch.stack(found).mean()


def _cosine(a, b):
  return (losses.unit(a) * losses.unit(b)).sum(1).mean()


def simclr_er(z1, z2, *, kappa, estimator, entropy_scope, symmetric):
  """Minus cosines and the entropies of both views, or of the second."""
  entropies = [
    _kernel_entropy(z, kappa, estimator, entropy_scope) for z in (z1, z2)
  ]
  entropy = sum(entropies) / 2 if symmetric else entropies[1]
  return -kappa * _cosine(z1, z2) - entropy


def byol_er(
  p1, p2, z1, z2, t1, t2, *, kappa, estimator, entropy_scope, symmetric
):
  """Predictions against the teacher, entropy of the student."""
  found = []
  for p, z, t in ((p1, z1, t2), (p2, z2, t1)):
    entropy = _kernel_entropy(z, kappa, estimator, entropy_scope)
    found.append(-kappa * _cosine(p, t.detach()) - entropy)
  return sum(found) / 2 if symmetric else found[0]


def _class_entropy(logits, scope, views):
  """Of the mean distribution of each group, meaned over views."""
  count = GLOBALS if views == "global" else logits.shape[1]
  found = []
  for group in logits.split(scope or len(logits)):
    for view in range(count):
      mean = group[:, view].softmax(-1).mean(0)
      log = mean.log()
      if not log.isfinite().all():  # 0 log 0 is 0, with a gradient
        log = group[:, view].log_softmax(-1).logsumexp(0) - math.log(len(group))
      found.append(-(log.exp() * log).sum())
  return torch.stack(found).mean()


# --- classes


def _across_views(targets, log_q):
  """Cross-entropy of each target with the other views."""
  found = []
  for t in range(targets.shape[1]):
    for s in range(log_q.shape[1]):
      if s != t:
        found.append(-(targets[:, t] * log_q[:, s]).sum(-1).mean())
  return sum(found) / len(found)


def dino(
  students, teachers, *, centre, student_temperature, teacher_temperature
):
  """Centred and sharpened teachers."""
  centred = teachers.detach() - centre
  return _across_views(
    torch.softmax(centred / teacher_temperature, -1),
    torch.log_softmax(students / student_temperature, -1),
  )


def dino_er(
  students,
  teachers,
  *,
  centre,
  student_temperature,
  teacher_temperature,
  symmetric,
  entropy_scope,
  entropy_views,
):
  """DINO less the entropy of the mean."""
  loss = dino(
    students,
    teachers,
    centre=centre,
    student_temperature=student_temperature,
    teacher_temperature=teacher_temperature,
  )
  logits = students / student_temperature
  if symmetric:
    centred = (teachers.detach() - centre) / teacher_temperature
    # The teacher's log against every other view of the student.
    back = _across_views(
      torch.log_softmax(centred, -1), torch.softmax(logits, -1)
    )
    loss = (loss + back) / 2
  return loss - _class_entropy(logits, entropy_scope, entropy_views)


def sinkhorn(scores, *, epsilon, iterations):
  """Rows and columns in turns; logarithms keep large scores finite."""
  shape, classes = scores.shape, scores.shape[-1]
  q = scores.detach().reshape(-1, classes).T / epsilon  # [classes, samples]
  samples = q.shape[1]
  for _ in range(iterations):
    q = q - q.logsumexp(1, keepdim=True) - math.log(classes)
    q = q - q.logsumexp(0, keepdim=True) - math.log(samples)
  return (samples * q.exp()).T.reshape(shape)


def plain_sinkhorn(scores, *, epsilon, iterations):
  """The same without logarithms, as the paper has it; for cosines."""
  q = torch.exp(scores.detach() / epsilon).T
  q = q / q.sum()
  for _ in range(iterations):
    q = q / q.sum(1, keepdim=True) / q.shape[0]
    q = q / q.sum(0, keepdim=True) / q.shape[1]
  return (q * q.shape[1]).T


def swav(scores, *, temperature, epsilon, iterations):
  """Codes of the two global views, predicted by the other views."""
  codes = torch.stack(
    [
      sinkhorn(scores[:, v], epsilon=epsilon, iterations=iterations)
      for v in range(GLOBALS)
    ],
    dim=1,
  )
  return _across_views(codes, torch.log_softmax(scores / temperature, -1))


def swav_er(
  scores, *, temperature, target_temperature, entropy_scope, entropy_views
):
  """Sharpened targets less the entropy of the mean."""
  targets = torch.softmax(scores[:, :GLOBALS].detach() / target_temperature, -1)
  logits = scores / temperature
  entropy = _class_entropy(logits, entropy_scope, entropy_views)
  return _across_views(targets, torch.log_softmax(logits, -1)) - entropy


def deepcluster(scores, *, assignments, temperature, weights):
  """Cross-entropy to the cluster, -1 left out."""
  known = assignments >= 0
  if not known.any():
    return 0 * scores.sum()
  logits = (scores / temperature)[known]
  own = assignments[known]
  losses = torch.stack(
    [
      functional.cross_entropy(logits[:, v], own, reduction="none")
      for v in range(scores.shape[1])
    ],
    dim=1,
  )
  if weights is not None:
    losses = losses * weights[known][:, None]
  return losses.mean()


def deepcluster_er(
  scores, *, assignments, temperature, weights, entropy_scope, entropy_views
):
  """DeepCluster less the entropy of the mean."""
  loss = deepcluster(
    scores, assignments=assignments, temperature=temperature, weights=weights
  )
  entropy = _class_entropy(scores / temperature, entropy_scope, entropy_views)
  return loss - entropy
