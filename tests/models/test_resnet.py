"""ResNet against Hugging Face's, its parameters, features and groups."""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from mmae_jax import checks, config as config_lib, models, types
from mmae_jax.models import resnet
from mmae_jax.models.resnet import ResNet

# Depths that only these tests have: two stages are enough to see a stride, a
# changed number of channels and a block without either.
BASIC, BOTTLENECK = 2, 3


@pytest.fixture(autouse=True)
def short(monkeypatch):
  monkeypatch.setitem(resnet.STAGES, BASIC, ((1, 2), False))
  monkeypatch.setitem(resnet.STAGES, BOTTLENECK, ((1, 2), True))


def shapes(encoder, size=32):
  init = functools.partial(encoder.init, method="features")
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  return jax.eval_shape(init, jax.random.key(0), images)


def random_variables(encoder, dtype=np.float32):
  """Scales, biases and running statistics that a wrong order would show."""
  rng = np.random.default_rng(0)

  def draw(path, x):
    name = path[-1].key
    value = rng.normal(0, 0.3, x.shape)
    return jnp.asarray(1 + np.abs(value) if name == "var" else value, dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes(encoder))


# --- parity ---


def foreign_model(torch, transformers, *, bottleneck, stem, width):
  """Hugging Face's network with the stride in the 3x3, in float64."""
  out = 4 * width if bottleneck else width
  config = transformers.ResNetConfig(
    embedding_size=width,
    hidden_sizes=[out, 2 * out],
    depths=[1, 2],
    layer_type="bottleneck" if bottleneck else "basic",
    downsample_in_bottleneck=False,
  )
  model = transformers.ResNetModel(config)
  if stem == "small":
    model.embedder.embedder.convolution = torch.nn.Conv2d(
      3, width, 3, padding=1, bias=False
    )
    model.embedder.pooler = torch.nn.Identity()
  return model.double()


def foreign_name(path):
  """("layer1_0", "conv2") -> "encoder.stages.0.layers.0.layer.1"."""
  if len(path) == 1:
    return "embedder.embedder"
  stage, block = path[0].removeprefix("layer").split("_")
  name = f"encoder.stages.{int(stage) - 1}.layers.{block}"
  if path[1].startswith("downsample"):
    return f"{name}.shortcut"
  return f"{name}.layer.{int(path[1][-1]) - 1}"


def to_foreign(tree):
  """Parameters, statistics or gradients as the other program names them."""
  names = {
    "kernel": "convolution.weight",
    "scale": "normalization.weight",
    "bias": "normalization.bias",
    "mean": "normalization.running_mean",
    "var": "normalization.running_var",
  }
  out = {}
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    *modules, leaf = (key.key for key in path)
    x = np.array(x)
    x = x.transpose(3, 2, 0, 1) if leaf == "kernel" else x
    out[f"{foreign_name(modules)}.{names[leaf]}"] = x
  return out


@pytest.mark.parametrize(
  ("depth", "stem", "with_gradient"),
  [(BASIC, "imagenet", True), (BOTTLENECK, "small", False)],
)
def test_equals_hugging_face(depth, stem, with_gradient):
  """Training and evaluation, running statistics and gradient, in float64."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  width = 4
  encoder = ResNet(depth, width / 64, stem)
  size = 16 if stem == "imagenet" else 6
  rng = np.random.default_rng(1)
  images = rng.normal(size=(3, size, size, 3))
  weight = rng.normal(size=encoder.feature_dim)

  with jax.enable_x64(True):
    variables = random_variables(encoder, np.float64)

    @jax.jit
    def run(variables, images):
      def loss(params):
        h, state = encoder.apply(
          {**variables, "params": params},
          images,
          train=True,
          method="represent",
          mutable=["batch_stats"],
        )
        return (jnp.square(h) @ weight).sum(), (h, state["batch_stats"])

      gradient, (_, (h, stats)) = {}, loss(variables["params"])
      if with_gradient:
        gradient, _ = jax.grad(loss, has_aux=True)(variables["params"])
      features = encoder.apply(variables, images, method="features")
      return h, stats, gradient, features

    own, stats, gradient, features = run(variables, jnp.asarray(images))

  model = foreign_model(
    torch,
    transformers,
    bottleneck=depth == BOTTLENECK,
    stem=stem,
    width=width,
  )
  ours = to_foreign(variables["params"]) | to_foreign(variables["batch_stats"])
  missing, unexpected = model.load_state_dict(
    {k: torch.from_numpy(v) for k, v in ours.items()}, strict=False
  )
  assert not unexpected
  assert all(name.endswith("num_batches_tracked") for name in missing)
  pixels = torch.from_numpy(images.transpose(0, 3, 1, 2))
  pooled = lambda: model(pixels).pooler_output.flatten(1)
  theirs = model.eval() and pooled()
  np.testing.assert_allclose(features, theirs.detach(), rtol=1e-10)
  theirs = model.train() and pooled()
  np.testing.assert_allclose(own, theirs.detach(), rtol=1e-10)
  (theirs.square() @ torch.from_numpy(weight)).sum().backward()

  # Torch's running variance is the unbiased one.
  after = model.state_dict()
  for name, x in to_foreign(stats).items():
    np.testing.assert_allclose(x, after[name], rtol=1e-10, err_msg=name)
  largest = max(p.grad.abs().max() for p in model.parameters())
  parameters = dict(model.named_parameters())
  for name, x in to_foreign(gradient).items():
    np.testing.assert_allclose(
      x, parameters[name].grad, atol=1e-10 * float(largest), err_msg=name
    )


def test_stride_two_pads_both_sides():
  """One pixel meets the kernel where torch's padding of 3 puts it."""
  kernel = jnp.arange(49.0).reshape(7, 7, 1, 1)
  image = jnp.zeros((1, 8, 8, 1)).at[0, 0, 0].set(1)
  out = resnet.Conv(1, 7, 2).apply({"params": {"kernel": kernel}}, image)
  assert out.shape == (1, 4, 4, 1)
  np.testing.assert_array_equal(out[0, :2, :2, 0], kernel[3::-2, 3::-2, 0, 0])


# --- parameters ---


@pytest.mark.parametrize(
  ("depth", "dim", "expected"),
  [
    (18, 512, 11_176_512),
    (34, 512, 21_284_672),
    (50, 2048, 23_508_032),
    (101, 2048, 42_500_160),
    (152, 2048, 58_143_808),
  ],
)
def test_parameter_counts_of_torchvision(depth, dim, expected):
  encoder = ResNet(depth)
  params = shapes(encoder)["params"]
  assert sum(x.size for x in jax.tree.leaves(params)) == expected
  assert encoder.feature_dim == dim


def test_width_multiplier_reaches_every_layer():
  wide, plain = (shapes(ResNet(10, w))["params"] for w in (0.5, 1.0))
  for path, x in jax.tree_util.tree_leaves_with_path(plain):
    half = functools.reduce(lambda tree, key: tree[key.key], path, wide)
    ends = [n if n == 3 else n // 2 for n in x.shape[-2:]]
    assert half.shape == (*x.shape[:-2], *ends), path
  with pytest.raises(ValueError, match="whole number, got 0.01"):
    shapes(ResNet(10, 0.01))


def test_initialisation():
  kernel = resnet.Conv(128, 3).init(jax.random.key(0), jnp.zeros((1, 1, 1, 64)))
  kernel = kernel["params"]["kernel"]
  std = np.sqrt(2 / (9 * 128))
  np.testing.assert_allclose(np.std(kernel), std, rtol=0.02)
  assert np.abs(kernel).max() > 3 * std  # not truncated

  @jax.jit
  def scales(key):
    params = ResNet(BOTTLENECK).init(
      key, jnp.zeros((1, 32, 32, 3)), method="features"
    )["params"]["layer2_0"]
    return {name: p for name, p in params.items() if "scale" in p}

  for name, norm in scales(jax.random.key(0)).items():
    np.testing.assert_array_equal(norm["scale"], name != "bn3")
    np.testing.assert_array_equal(norm["bias"], 0)


# --- the forward pass ---


def represent(encoder, variables, images, **kwargs):
  """The feature in training, and the statistics after it."""
  return encoder.apply(
    variables,
    images,
    train=True,
    method="represent",
    mutable=["batch_stats"],
    **kwargs,
  )


def test_groups_and_precision():
  encoder = ResNet(BASIC, 1 / 16, "small", group_size=2)
  variables = random_variables(encoder)
  images = jax.random.normal(jax.random.key(1), (4, 6, 6, 3))
  order = jnp.array([2, 0, 3, 1])
  groups = jnp.array([0, 1, 0, 1])

  @jax.jit
  def run(variables):
    low = encoder.clone(dtype="bfloat16")
    return (
      represent(encoder, variables, images, groups=groups),
      represent(encoder, variables, images[order]),
      represent(low, variables, images[order])[0],
    )

  (own, state), (moved, moved_state), low = run(variables)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
  jax.tree.map(close, (own[order], state), (moved, moved_state))
  assert low.dtype == jnp.float32
  difference = np.linalg.norm(low - moved) / np.linalg.norm(moved)
  assert 1e-4 < difference < 0.1


def test_remat_has_the_same_variables():
  encoder = ResNet(BASIC, 1 / 16, "small", group_size=2)
  again = encoder.clone(remat=True)
  assert shapes(again) == shapes(encoder)

  def loss(variables, groups):
    images = jnp.zeros((4, 6, 6, 3))
    return represent(again, variables, images, groups=groups)[0].sum()

  groups = jnp.array([0, 1, 0, 1])
  program = jax.make_jaxpr(jax.grad(loss))(shapes(again), groups)
  names = [str(e.primitive) for e in program.eqns]
  assert sum("remat" in n or "checkpoint" in n for n in names) >= 3


def test_features():
  encoder = ResNet(BASIC, 1 / 16, "small")
  variables = random_variables(encoder)
  images = jnp.zeros((2, 6, 6, 3))
  features = functools.partial(encoder.apply, method="features")

  def dim(**settings):
    run = functools.partial(features, **settings)
    return jax.eval_shape(run, variables, images).shape

  assert (
    dim() == dim(layer=1, pool="mean") == (2, encoder.feature_dim) == (2, 8)
  )
  assert dim(layer=0) == dim(layer=-2) == (2, 4)
  assert encoder.has_batch_norm
  for wrong, message in (
    (dict(pool="cls"), r"evaluation\.pool.*got 'cls'"),
    (dict(layer=2), "layer 2 of an encoder of 2 stages"),
  ):
    with pytest.raises(ValueError, match=message):
      dim(**wrong)
  with pytest.raises(ValueError, match=r"got \[2, 6, 6\]"):
    features(variables, images[..., 0])


# --- configs ---


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (dict(depth=20), "encoder.depth=20: a ResNet has one of 10, 18, 34"),
    (dict(width_multiplier=0.0), "encoder.width_multiplier=0.0: 64 times"),
    (dict(width_multiplier=0.3), "encoder.width_multiplier=0.3: 64 times"),
    (dict(stem="cifar"), "encoder.stem=cifar: must be one of imagenet, small"),
    (
      dict(norm_momentum=1.5),
      r"encoder.norm_momentum=1.5: must be in \[0, 1\]",
    ),
    (dict(norm_epsilon=0.0), "encoder.norm_epsilon=0.0: must be positive"),
    (dict(group_size=1), "encoder.group_size=1: must be at least 2, or 0"),
    (dict(dtype="float16"), "encoder.dtype=float16"),
  ],
)
def test_build_encoder(wrong, message):
  config = ConfigDict(config_lib.base().encoder)
  config.update(name="resnet", depth=18, stem="small", dtype="bfloat16")
  expected = ResNet(18, stem="small", dtype="bfloat16")
  assert models.build_encoder(config, 32) == expected
  config.update(wrong)
  with pytest.raises(types.UsageError, match=message):
    models.build_encoder(config, 32)


def test_a_resnet_has_no_class_token():
  config = config_lib.base()
  config.name = "x"
  config.encoder.name = "resnet"
  checks.check(config)
  config.evaluation.pool = "cls"
  with pytest.raises(types.UsageError, match=r"=cls: .*evaluation\.pool=auto"):
    checks.check(config)
