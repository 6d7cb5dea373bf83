"""Projectors and predictors: the small networks behind an encoder."""

from collections.abc import Sequence
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from mmae_jax import information
from mmae_jax.models import layers
from mmae_jax.models.norm import BatchNorm

Array = jax.Array

# last_norm: attributes of BatchNorm.
_NORMS = {
  "affine": {},
  "plain": {"affine": False},
  "scale": {"use_bias": False},
}
NORMS = ("none", *_NORMS)
_ACTIVATIONS = {"relu": nn.relu, "gelu": layers.gelu}
_BEGINNINGS = ("torch", "truncated")


class MLP(nn.Module):
  """Linear layers with BatchNorm and ReLU or GELU between them.

      hidden: relu([BatchNorm](x W [+ b])),  last: [BatchNorm](x W [+ b])

  As the papers' programs have them (no biases, and BatchNorm and ReLU in the
  hidden layers, unless it is said):

      SimCLR           (2048, 2048, 128), last_norm="scale"
      BYOL             (4096, 256), hidden_bias=True, both heads
      SimSiam, MEC,    (2048, 2048, 2048), last_norm="plain"; the predictor is
      Matrix-SSL       (512, 2048), last_bias=True
      MoCo v2          (2048, 128), both biases, hidden_norm=False
      MoCo v3          (4096, 256), last_norm="plain"; with a ViT (4096, 4096,
                       256); predictor (4096, 256), with a ViT "plain" too
      Barlow Twins     (8192, 8192, 8192)
      VICReg           (8192, 8192, 8192), hidden_bias=True
      spectral         (8192, 8192, 8192), both biases, last_norm="affine"
      SwAV,            (2048, 128), both biases
      DeepCluster-v2
      DINO             (2048, 2048, 256), both biases, hidden_norm=False,
                       activation="gelu", begin="truncated"

  Attributes:
    widths: entries of the hidden layers, and then of the output.
    hidden_bias: whether hidden layers have a bias.
    last_bias: whether the last layer has one. SimSiam's frozen one, which its
      BatchNorm takes away again, is not there.
    hidden_norm: BatchNorm with scale and bias before each ReLU.
    last_norm: BatchNorm of the output, "none", "affine", "plain" (neither
      scale nor bias) or "scale" (no bias).
    activation: of the hidden layers, "relu" or "gelu" (exact).
    begin: "torch": weights and biases uniform in +-1/sqrt(fan_in), as
      PyTorch's Linear; "truncated": weights normal with deviation 0.02, cut
      off at 2 (which is far away), biases 0.
    group_size: rows that share BatchNorm statistics, 0 is the whole batch.
    momentum: of BatchNorm, the share of the running statistics that is kept.
    epsilon: of BatchNorm.
    dtype: "bfloat16" for products in bfloat16; parameters and statistics stay
      float32. None promotes.
  """

  widths: Sequence[int]
  hidden_bias: bool = False
  last_bias: bool = False
  hidden_norm: bool = True
  last_norm: str = "none"
  activation: str = "relu"
  begin: str = "torch"
  group_size: int = 0
  momentum: float = 0.9
  epsilon: float = 1e-5
  dtype: str | None = None

  def __post_init__(self):
    if not self.widths or min(self.widths) < 1:
      raise ValueError(f"widths must be positive, got {tuple(self.widths)}")
    if not isinstance(self.hidden_norm, bool):
      raise ValueError(f"hidden_norm must be a bool, got {self.hidden_norm!r}")
    if self.last_norm not in NORMS:
      raise ValueError(
        f"last_norm must be one of {', '.join(NORMS)}, got {self.last_norm!r}"
      )
    for name, known in (("activation", _ACTIVATIONS), ("begin", _BEGINNINGS)):
      value = getattr(self, name)
      if value not in known:
        raise ValueError(
          f"{name} must be one of {', '.join(known)}, got {value!r}"
        )
    super().__post_init__()

  @property
  def has_batch_norm(self) -> bool:
    """Whether a row's output in training depends on the other rows."""
    hidden = self.hidden_norm and len(self.widths) > 1
    return hidden or self.last_norm != "none"

  @nn.compact
  def __call__(
    self, x: Array, *, train: bool, groups: Array | None = None
  ) -> Array:
    """Maps rows, [batch, dim] -> [batch, widths[-1]].

    Args:
      x: [batch, dim].
      train: BatchNorm uses and records the statistics of this batch.
      groups: see `BatchNorm`; int [batch] or None.
    Returns:
      [batch, widths[-1]], at least float32.
    Raises:
      ValueError: group_size does not divide the batch.
    """
    last = len(self.widths) - 1
    for i, width in enumerate(self.widths):
      is_last = i == last
      kernel = bias = layers.symmetric_uniform(1 / math.sqrt(x.shape[-1]))
      if self.begin == "truncated":
        kernel, bias = _truncated_normal(), nn.initializers.zeros
      x = nn.Dense(
        width,
        use_bias=self.last_bias if is_last else self.hidden_bias,
        dtype=self.dtype,
        kernel_init=kernel,
        bias_init=bias,
        name=f"linear_{i}",
      )(x)
      if is_last:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
      kind = self.last_norm if is_last else ("none", "affine")[self.hidden_norm]
      if kind != "none":
        x = BatchNorm(
          epsilon=self.epsilon,
          momentum=self.momentum,
          group_size=self.group_size,
          name=f"norm_{i}",
          **_NORMS[kind],
        )(x, train=train, groups=groups)
      x = x if is_last else _ACTIVATIONS[self.activation](x)
    return x


class Prototypes(nn.Module):
  """The last layer of a head: cosines of rows with class vectors.

      scores_ik = <z_i, w_k>,   z_i and w_k of unit length

  Attributes:
    count: classes.
    form: "direction": the stored vectors have any length and are normalised
      here, a weight-normalised linear layer whose lengths stay 1 (DINO).
      "vector": they are stored on the sphere and taken as they are, so their
      gradient leaves it; who updates them brings them back (SwAV).

  They begin uniform in +-1/sqrt(dim), as PyTorch's Linear; vectors are then put
  on the sphere.
  """

  count: int
  form: str = "direction"

  def __post_init__(self):
    if self.count < 2:
      raise ValueError(f"prototypes must be at least 2, got {self.count}")
    super().__post_init__()

  @nn.compact
  def __call__(self, z: Array) -> Array:
    """Scores rows.

    Args:
      z: [batch, dim]; rows are normalised here.
    Returns:
      [batch, count] in [-1, 1], at least float32.
    """
    dim = z.shape[-1]

    def begin(key, shape):
      vectors = layers.symmetric_uniform(1 / math.sqrt(dim))(key, shape)
      stored = self.form == "vector"
      return information.normalise_rows(vectors) if stored else vectors

    vectors = self.param("kernel", begin, (self.count, dim))
    if self.form == "direction":
      vectors = information.normalise_rows(vectors)
    return jnp.matmul(
      information.normalise_rows(z),
      vectors.T,
      precision=jax.lax.Precision.HIGHEST,
    )


def _truncated_normal():
  """Deviation 0.02, cut off at 2: at 100 deviations, where nothing is."""
  return nn.initializers.normal(0.02)
