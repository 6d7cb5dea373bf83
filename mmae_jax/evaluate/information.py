"""The information plane: both branches of an objective on fixed images."""

import collections
from collections.abc import Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mmae_jax import config as config_lib, information
from mmae_jax.data import photometry as photometry_lib, pipeline, probe
from mmae_jax.evaluate import categories, features as features_lib, hosts

Array = jax.Array

_SEED = 0
# Of the kernel density on the sphere; the papers' constant.
_KAPPA = 10.0


@functools.partial(jax.jit, static_argnames="sample_rows")
def measure(
  z1: Array,
  z2: Array,
  others: Mapping[str, Array] | None = None,
  *,
  sample_rows: int = 512,
) -> dict[str, Array]:
  """Entropies, mutual information, rank and bounds of two branches.

  Sample side: matrices of cosines between images. Feature side: correlation
  matrices of the features, centred over the images. Order 2 takes Frobenius
  norms alone; order 1 takes eigenvalues, on the sample side of every
  (rows / sample_rows)-th image only. Mutual information of order 2 may be
  negative. All of them depend on the number of images, which is why a run
  measures a fixed set.

  Args:
    z1, z2: features of the two branches, [rows, dim]; row i of both is the
      same image. With rows sharded over devices, the [rows, rows] matrices
      are so too.
    others: {name: [rows, any dim]}, further features whose spectrum counts.
    sample_rows: images of the sample side of order 1.
  Returns:
    Scalars in nats but for ranks, numbers of rows, squared cosines and
    distances:

      <side>_entropy_<order>_a, _b; <side>_joint_entropy_<order>;
      <side>_mutual_information_<order>   for both sides, orders 1 and 2
      sample_rows               images of the sample side of order 1
      rows                      images of everything else
      effective_rank_a, _b      exp of the entropy of the second moment
      coding_rate, mean_squared_cosine   of the first branch, M-MAE's program
                                with scale 1, and U-MAE's
      alignment                 mean squared distance of paired unit rows
      er_entropy, er_uniform_entropy, er_reconstruction, er_bound, er_ceiling
                                kernel estimate, mean of both branches; what
                                it is for uniform rows; the reconstruction
                                loss; entropy minus reconstruction; log(rows),
                                which er_bound cannot exceed
      dead_features, dimensions of the first branch: those that are the same
                                for all images, see `dead_features`; all
      entropy_1_<name>, effective_rank_<name>   for each of `others`

    and "eigenvalues_a", "eigenvalues_b": [min(rows, dim)], unit trace,
    descending.
  """
  rows = len(z1)
  some = probe.evenly(rows, sample_rows)
  spectra = [information.feature_spectrum(z) for z in (z1, z2)]
  entropies = [information.spectral_entropy(p) for p in spectra]
  bound = -0.5 * sum(
    information.er_loss(z, z1, z2, kappa=_KAPPA) for z in (z1, z2)
  )
  reconstruction = information.vmf_reconstruction(z1, z2, kappa=_KAPPA)
  unit = [information.normalise_rows(z) for z in (z1, z2)]
  values = {
    **_side("sample", information.cosine_gram, z1[some], z2[some], orders=[1]),
    **_side("sample", information.cosine_gram, z1, z2, orders=[2]),
    **_side("feature", information.correlation, z1, z2, orders=[1, 2]),
    "sample_rows": len(some),
    "rows": rows,
    "effective_rank_a": jnp.exp(entropies[0]),
    "effective_rank_b": jnp.exp(entropies[1]),
    "coding_rate": information.coding_rate(z1),
    "mean_squared_cosine": information.mean_squared_cosine(z1),
    "alignment": jnp.mean(jnp.sum((unit[0] - unit[1]) ** 2, axis=1)),
    "er_entropy": bound + reconstruction,
    "er_uniform_entropy": information.vmf_uniform_entropy(
      rows, z1.shape[1], kappa=_KAPPA
    ),
    "er_reconstruction": reconstruction,
    "er_bound": bound,
    "er_ceiling": np.log(rows),
    "dead_features": dead_features(z1),
    "dimensions": z1.shape[1],
    "eigenvalues_a": spectra[0],
    "eigenvalues_b": spectra[1],
  }
  for name, z in (others or {}).items():
    entropy = information.spectral_entropy(information.feature_spectrum(z))
    values[f"entropy_1_{name}"] = entropy
    values[f"effective_rank_{name}"] = jnp.exp(entropy)
  return values


def dead_features(z: Array) -> Array:
  """How many dimensions hardly depend on the image.

  Args:
    z: features, [rows, dim].
  Returns:
    The number of columns whose standard deviation is at most a thousandth of
    the root mean square of all entries.
  """
  z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
  return jnp.sum(jnp.std(z, axis=0) <= 1e-3 * jnp.sqrt(jnp.mean(z**2)))


def _side(side, matrix, z1, z2, *, orders):
  """Entropies and mutual information of one kind of matrix."""
  k1, k2 = matrix(z1), matrix(z2)
  values = {}
  for order in orders:
    a, b = (information.matrix_entropy(k, order=order) for k in (k1, k2))
    joint = information.joint_entropy(k1, k2, order=order)
    values |= {
      f"{side}_entropy_{order}_a": a,
      f"{side}_entropy_{order}_b": b,
      f"{side}_joint_entropy_{order}": joint,
      f"{side}_mutual_information_{order}": a + b - joint,
    }
  return values


class Plane:
  """Measures states on one probe set; changes none, compiles once.

  The probe set is `config.plane.size` images of the test split, evenly spaced,
  or of the training split where the test split has fewer than that and than
  twice the dimension of the branches (entropies of fewer would tell about
  their number). Crops, photometry and masks are those of training, drawn from
  seeds of their own, so that two measurements differ by the state alone.

  Attributes:
    probe: the images.
    names: of the two branches.
  """

  def __init__(
    self,
    config: Any,
    objective: Any,
    state: Any,
    *,
    mesh: jax.sharding.Mesh,
    train_source: Any,
    test_source: Any | None,
  ):
    """Chooses the images; compiles nothing yet.

    Args:
      config: the run's.
      objective: the Objective.
      state: a TrainState, lends its shapes.
      mesh: the devices over which the images are split.
      train_source: training split.
      test_source: test split or None.
    """
    config = config_lib.with_global_views_alone(config)
    photometry = photometry_lib.make_photometry(config)

    def encode(state, batch):
      keys = jax.random.split(jax.random.key(_SEED))
      views, params = photometry(keys[0], batch), state.params["network"]
      branches = objective.branches(keys[1], params, state, views)
      # jax would sort the keys of a plain dictionary.
      branches = collections.OrderedDict(
        (name, z.astype(jnp.promote_types(z.dtype, jnp.float32)))
        for name, z in branches.items()
      )
      sums = {}
      if objective.categories is not None:
        logits = objective.categories(params, state, views)
        sums = categories.sums(*logits, batch["valid"])
      return branches, sums

    batch = pipeline.batch_shapes(config)
    batch["valid"] = jax.ShapeDtypeStruct((config.batch_size,), bool)
    shapes, _ = jax.eval_shape(encode, state, batch)
    self.names = tuple(shapes)[:2]
    settings = config.plane
    enough = min(settings.size, 2 * shapes[self.names[0]].shape[-1])
    test_is_enough = test_source is not None and len(test_source) >= enough
    source = test_source if test_is_enough else train_source
    rows = probe.evenly(len(source), settings.size)
    self.probe = probe.Probe(source, rows, config)
    self._mesh = mesh
    self._batch_size = self.probe.batch_size(
      config.evaluation.batch_size, mesh.size
    )
    self._batches = None
    self._encode = jax.jit(encode)
    # Scalars and spectra on every process.
    self._measure = jax.jit(
      functools.partial(measure, sample_rows=settings.sample_rows),
      out_shardings=NamedSharding(mesh, PartitionSpec()),
    )

  def __call__(self, state: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """Measures a state; a collective operation.

    Args:
      state: a TrainState on the mesh.
    Returns:
      (values, arrays): the scalars of `measure` and, where the objective has
      classes, of `categories.terms`, {name: number}; the spectra
      "eigenvalues_a", "eigenvalues_b" and the "names" of the branches.
    """
    # The loop forbids implicit transfers; measuring is on its own side.
    with jax.transfer_guard("allow"):
      features, sums = self._features(state)
      first, second, *others = features.items()
      values = jax.device_get(self._measure(first[1], second[1], dict(others)))
    arrays = {
      name: values.pop(name) for name in ("eigenvalues_a", "eigenvalues_b")
    }
    arrays["names"] = np.array(self.names)
    values = {name: x.item() for name, x in values.items()}
    return values | (categories.terms(sums) if sums else {}), arrays

  def _features(self, state):
    """({name: [rows, dim]}, sums of `categories.sums` or {}) of all images.

    The rows are split over the mesh where their number allows it.
    """
    parts, sums = collections.defaultdict(list), collections.Counter()
    for batch in self._images():
      valid = hosts.to_host(batch["valid"])
      branches, own = self._encode(state, batch)
      for name, z in branches.items():
        parts[name].append(hosts.to_host(z)[valid])
      for name, x in own.items():
        sums[name] = sums[name] + hosts.to_host(x).astype(np.float64)
    split = len(self.probe) % self._mesh.size == 0
    return {
      name: hosts.to_mesh(np.concatenate(rows), self._mesh, split=split)
      for name, rows in parts.items()
    }, sums

  def _images(self):
    """Batches of the probe set; those of small images stay on the devices."""
    if self._batches is not None:
      return self._batches
    batches = self.probe.batches(mesh=self._mesh, batch_size=self._batch_size)
    if self.probe.view_bytes() <= features_lib.CACHE_BYTES:
      batches = self._batches = list(batches)
    return batches


def measurement_flops(rows: int, dim: int, *, sample_rows: int = 512) -> float:
  """Floating-point operations of `measure`, at most.

  Args:
    rows, dim: of the branches.
    sample_rows: as in `measure`.
  Returns:
    FLOPs: products of [rows, dim] on both sides, and the reductions to
    tridiagonal form, 4/3 n^3, of which eigenvalues mostly consist.
  """
  some = min(rows, sample_rows)
  samples = 2 * 2 * rows**2 * dim + 2 * 2 * rows**2 * dim  # cosines, kernel
  features = (2 + 3 + 1) * 2 * rows * dim**2  # correlations, spectra, rate
  eigenvalues = 4 / 3 * (3 * some**3 + (3 + 3) * dim**3)
  return samples + 2 * 2 * some**2 * dim + features + eigenvalues
