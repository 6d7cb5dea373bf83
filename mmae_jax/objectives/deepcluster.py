"""DeepCluster-v2: crops predict the k-means cluster of their image."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mmae_jax import information
from mmae_jax.information import checks, spectra
from mmae_jax.objectives import clustering, multi_crop, parts
from mmae_jax.objectives.networks import Networks, head
from mmae_jax.objectives.swav import PROJECTOR
from mmae_jax.types import Objective


def deepcluster_loss(scores, assignments, *, temperature=0.1, weights=None):
  """Loss of DeepCluster-v2, of one clustering: cross-entropy to the cluster.

      -sum_is w_i log softmax(scores_is / temperature)[a_i]
        / (views * number of i with a_i >= 0),     over i with a_i >= 0

  Args:
    scores: cosines of all views with the centroids, [batch, views, clusters].
    assignments: a, int [batch]; -1 is none, and that image does not count.
    temperature: positive.
    weights: w, [batch], or None for 1; of `balancing_weights`.
  Returns:
    Scalar in nats, at least float32; 0 where no image has a cluster.
  Raises:
    ValueError: shapes that do not belong together, temperature is not
      positive.
  Source:
    Caron et al. 2020, https://arxiv.org/abs/2006.09882, and 2018,
    https://arxiv.org/abs/1807.05520, for the weights.
  """
  multi_crop.check_views(scores=scores)
  checks.check_positive("temperature", temperature)
  batch, views = jnp.shape(scores)[:2]
  for name, x in (("assignments", assignments), ("weights", weights)):
    if x is not None and jnp.shape(x) != (batch,):
      raise ValueError(f"{name} must be [{batch}], got {list(jnp.shape(x))}")
  log_q = jax.nn.log_softmax(spectra.widen(scores) / temperature)
  own = jnp.maximum(assignments, 0)[:, None, None]
  losses = -jnp.take_along_axis(log_q, own, axis=2)[..., 0]
  known = assignments >= 0
  weights = known if weights is None else jnp.where(known, weights, 0)
  total = jnp.sum(losses * weights[:, None])
  return total / (views * jnp.maximum(jnp.sum(known), 1))


def balancing_weights(counts, assignments):
  """Weights that stand for sampling clusters evenly, and then their images.

      w_i = N / (K n_a),   K the clusters that are not empty

  Args:
    counts: n, images of each cluster, int [clusters]; N in all.
    assignments: a, int [batch]; what -1 gets does not matter.
  Returns:
    [batch]; their mean over all images is 1.
  Source:
    The sampler of DeepCluster-v1 (Caron et al. 2018, arXiv 1807.05520), in
    expectation.
  """
  share = jnp.sum(counts) / jnp.maximum(jnp.sum(counts > 0), 1)
  return share / jnp.maximum(counts[assignments], 1)


def make(encoder, run, **hyperparameters) -> Objective:
  """DeepCluster-v2 as an objective.

  Args:
    encoder: a backbone.
    run: facts of the run.
    **hyperparameters: of `clustered`.
  Returns:
    The Objective.
  Raises:
    ValueError: as `clustered`.
  """
  return clustered(encoder, run, deepcluster_loss, **hyperparameters)


def clustered(
  encoder,
  run,
  criterion,
  *,
  clusters=(3000, 3000, 3000),
  iterations=10,
  temperature=0.1,
  balanced=False,
  drop_path=0.0,
  projector=None,
) -> Objective:
  """Crops, a bank of their embeddings, and clusters of it once an epoch.

  The bank has a row for each image and global view, written when the image is
  seen. After each epoch the clusterings are made anew, of the views in turn;
  until the next, an image keeps its clusters. The first epoch only fills the
  bank: nothing is learned in it, and the learning rate's schedule begins after
  it. The last images of an epoch, which fill no batch, keep rows of an earlier
  one; without any they have no cluster.

  Args:
    encoder: a backbone.
    run: facts of the run.
    criterion: (scores, assignments, temperature=, weights=) -> scalar of one
      clustering, or a tuple of it and named scalars; see `deepcluster_loss`.
      The mean over the clusterings is the loss.
    clusters: of each clustering, a tuple.
    iterations: of k-means, at least 1.
    temperature: as in `deepcluster_loss`.
    balanced: weights that stand for DeepCluster-v1's uniform sampling over
      clusters; else, as in v2, every image counts the same.
    drop_path: highest rate at which branches of a ViT are left out.
    projector: keywords of `heads.MLP` that differ from the program's.
  Returns:
    The Objective; it needs two global views and takes local ones.
  Raises:
    ValueError: a value out of its range, fewer images than clusters, a run of
      one epoch.
  """
  clusters = tuple(clusters)
  seen = run.steps_per_epoch * run.batch_size
  if not clusters or not all(2 <= count <= seen for count in clusters):
    raise ValueError(
      "clusters must be numbers of at least 2, and at most the images of an"
      f" epoch, {seen}, got {clusters!r}"
    )
  if iterations < 1:
    raise ValueError(f"iterations must be at least 1, got {iterations!r}")
  multi_crop.check_drop_path(encoder, drop_path)
  first_step = run.steps_per_epoch
  if run.total_steps <= first_step:
    raise ValueError(
      "clusters come at the end of the first epoch: --config.epochs must be"
      " more than 1"
    )
  projector = head("projector", encoder, PROJECTOR, projector)
  networks = Networks(encoder, run, projector=projector)
  dim = projector.widths[-1]
  heads = [str(i) for i in range(len(clusters))]
  # Traced once here: bad values are refused before anything is compiled.
  jax.eval_shape(
    functools.partial(criterion, temperature=temperature),
    jax.ShapeDtypeStruct((run.batch_size, 2, clusters[0]), jnp.float32),
    jax.ShapeDtypeStruct((run.batch_size,), jnp.int32),
  )

  def init(key, views):
    network_key, *keys = jax.random.split(key, 1 + len(clusters))
    params, model_state, carry = networks.init(network_key, views)
    rows = clustering.bank_rows(run.num_examples)
    centroids = {
      name: information.normalise_rows(jax.random.normal(key, (count, dim)))
      for name, count, key in zip(heads, clusters, keys, strict=True)
    }
    return (
      params,
      model_state,
      {
        **carry,
        "bank": {
          str(view): jnp.zeros((*rows, dim))
          for view in range(multi_crop.GLOBALS)
        },
        "assignments": {name: jnp.full(rows, -1, jnp.int32) for name in heads},
        "centroids": centroids,
        "counts": {
          name: jnp.zeros((count,), jnp.int32)
          for name, count in zip(heads, clusters, strict=True)
        },
      },
    )

  def loss(key, params, state, views):
    embedding, model_state = multi_crop.embed(
      networks,
      params,
      state.model_state,
      views,
      drop_path=(key, drop_path),
    )
    z = multi_crop.normalise(embedding.projection)
    index, carry = views["index"], state.carry
    values = []
    for name in heads:
      own = clustering.read_rows(carry["assignments"][name], index)
      scores = spectra.matmul(z, carry["centroids"][name].T)
      weights = None
      if balanced:
        weights = balancing_weights(carry["counts"][name], own)
      value = criterion(scores, own, temperature=temperature, weights=weights)
      values.append(parts.with_terms(value))
    kept = jax.lax.stop_gradient(z)
    carry = {
      **carry,
      "bank": {
        view: clustering.write_rows(bank, index, kept[:, int(view)])
        for view, bank in carry["bank"].items()
      },
    }
    mean = lambda *values: sum(values) / len(values)
    value, metrics = jax.tree.map(mean, *values)
    metrics = {**metrics, "clustered": jnp.mean(own >= 0)}
    # Nothing to learn before there are clusters, whatever the criterion.
    value = jnp.where(state.step < first_step, 0.0, value)
    return value, multi_crop.output(embedding, metrics, model_state, carry)

  def refresh(key, carry):
    found = {"assignments": {}, "centroids": {}, "counts": {}}
    for i, (name, count) in enumerate(zip(heads, clusters, strict=True)):
      assignments, centroids = clustering.spherical_kmeans(
        jax.random.fold_in(key, i),
        carry["bank"][str(i % multi_crop.GLOBALS)],
        clusters=count,
        iterations=iterations,
      )
      found["assignments"][name] = assignments
      found["centroids"][name] = centroids
      found["counts"][name] = clustering.sizes(assignments, count)
    return {**carry, **found}

  def categories(params, state, views):
    """Of the first clustering; view 2 is wholly in its nearest cluster."""
    first, second = (
      spectra.matmul(
        information.normalise_rows(x.projection),
        state.carry["centroids"]["0"].T,
      )
      for x in networks.frozen_pair(params, state, views)
    )
    nearest = jax.nn.one_hot(jnp.argmax(second, axis=1), clusters[0])
    return first / temperature, jnp.log(nearest.astype(second.dtype))

  return Objective(
    init=init,
    loss=loss,
    refresh=refresh,
    refresh_every=first_step,
    branches=networks.branches,
    categories=categories,
    learns_from=first_step,
    wrap_optimizer=lambda optimizer: parts.frozen_until(optimizer, first_step),
    carry_sharding={
      "bank": clustering.BANK,
      "assignments": clustering.BANK,
      "centroids": PartitionSpec(),
      "counts": PartitionSpec(),
    },
    needs={"global": multi_crop.GLOBALS},
    takes=("local",),
  )
