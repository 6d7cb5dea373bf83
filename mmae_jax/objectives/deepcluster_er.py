"""DeepCluster+ER: DeepCluster-v2 with an entropy of the predicted clusters.

An extension of ours: the paper reads DeepCluster through the bound and does not
train it so.
"""

import functools

from mmae_jax.information import spectra
from mmae_jax.objectives import er
from mmae_jax.objectives.deepcluster import clustered, deepcluster_loss
from mmae_jax.types import Objective


def deepcluster_er_loss(
  scores,
  assignments,
  *,
  temperature=0.1,
  weights=None,
  entropy_scope=None,
  entropy_views="global",
):
  """Negative ER bound of distributions over clusters.

      deepcluster_loss - H(mean_i softmax(scores_i / temperature))

  Version 2 no longer samples the clusters evenly, which held the entropy of
  the assignments high; here the entropy is asked for.

  Args:
    scores, assignments: as in `deepcluster.deepcluster_loss`.
    temperature, weights: the same.
    entropy_scope: None for the global batch, or groups of so many images.
    entropy_views: "global", the first two views, or "all".
  Returns:
    (scalar, terms), see `er.of_categories`; nats, at least -log clusters.
  Raises:
    ValueError: as `deepcluster.deepcluster_loss` and `er.of_categories`.
  Source:
    Ours, after Rodriguez-Galvez et al. 2023, https://arxiv.org/abs/2307.10907.
  """
  reconstruction = deepcluster_loss(
    scores, assignments, temperature=temperature, weights=weights
  )
  return er.of_categories(
    reconstruction,
    spectra.widen(scores) / temperature,
    entropy_scope=entropy_scope,
    entropy_views=entropy_views,
  )


def make(
  encoder,
  run,
  *,
  entropy_scope=None,
  entropy_views="global",
  **hyperparameters,
) -> Objective:
  """DeepCluster+ER as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    entropy_scope, entropy_views: as in `deepcluster_er_loss`.
    **hyperparameters: of `deepcluster.clustered`.
  Returns:
    The Objective.
  Raises:
    ValueError: a value out of its range.
  """
  criterion = functools.partial(
    deepcluster_er_loss,
    entropy_scope=entropy_scope,
    entropy_views=entropy_views,
  )
  return clustered(encoder, run, criterion, **hyperparameters)
