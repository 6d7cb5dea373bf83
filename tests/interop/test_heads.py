"""Heads of converted networks compute what those of the other program do."""

import functools

from interop import foreign
import jax
import numpy as np
import pytest

from mmae_jax.interop import contents, importing
from mmae_jax.models import heads

torch = pytest.importorskip("torch")

ROWS = 6
# Name in foreign.ALL: (Sequential in the file, network, head here).
HEADS = {
  "moco v1": (("encoder_q.fc", "student", "projector"),),
  "moco v2": (
    ("encoder_q.fc", "student", "projector"),
    ("encoder_k.fc", "teacher", "projector"),
  ),
  "moco_v3": (
    ("base_encoder.fc", "student", "projector"),
    ("momentum_encoder.fc", "teacher", "projector"),
    ("predictor", "student", "predictor"),
  ),
  "moco_v3 vit": (
    ("base_encoder.head", "student", "projector"),
    ("predictor", "student", "predictor"),
  ),
  "simsiam": (
    ("encoder.fc", "student", "projector"),
    ("predictor", "student", "predictor"),
  ),
  "mec": (("teacher.fc", "teacher", "projector"),),
  "barlow_twins": (("projector", "student", "projector"),),
  "vicreg": (("projector", "student", "projector"),),
  "swav": (("projection_head", "student", "projector"),),
  "deepcluster": (("projection_head", "student", "projector"),),
  "spectral": (("backbone.proj_resnet_layer", "student", "projector"),),
  "dino": (
    ("student:head.mlp", "student", "projector"),
    ("teacher:head.mlp", "teacher", "projector"),
  ),
  "solo_learn barlow_twins": (("projector", "student", "projector"),),
  "solo_learn simclr": (("projector", "student", "projector"),),
  "solo_learn byol": (
    ("projector", "student", "projector"),
    ("predictor", "student", "predictor"),
    ("momentum_projector", "teacher", "projector"),
  ),
  "solo_learn dino": (("head.mlp", "student", "projector"),),
  "lightly byol": (
    ("projection_head.layers", "student", "projector"),
    ("prediction_head.layers", "student", "predictor"),
    ("teacher_projection_head.layers", "teacher", "projector"),
  ),
  "lightly simclr": (("projection_head.layers", "student", "projector"),),
  "lightly mocov2": (("key_projection_head.layers", "teacher", "projector"),),
}
# (Sequential before them, their layer, network) of heads that score classes.
CLASSES = {
  "dino": ("teacher:head.mlp", "teacher:head.last_layer", "teacher"),
  "lightly dino": (
    "projection_head.layers",
    "projection_head.last_layer",
    "teacher",
  ),
  "swav": ("projection_head", "prototypes", "student"),
}


def read(name):
  """(tensors of the file in float64, by name; our network of them)."""
  content = foreign.ALL[name][1]()
  file = contents.unwrapped("x", content)
  wide = {
    n: x.astype(np.float64) if x.dtype == np.float32 else x
    for n, x in file.tensors.items()
  }
  return wide, importing.from_file(file._replace(tensors=wide))


def sequential(tensors, prefix, activation):
  """torch's Sequential of tensors named prefix.0.weight, ...; between two
  layers whose numbers are not neighbours there is an activation.
  """
  layers = {}
  for name, x in tensors.items():
    if name.startswith(f"{prefix}.") or "proj_resnet_layer" in prefix:
      rest = name.removeprefix(prefix).removeprefix(".")
      place, _, leaf = rest.rpartition(".")
      if leaf and place.replace(".", "").isdigit():
        layers.setdefault(place, {})[leaf] = torch.from_numpy(np.array(x))
      elif not place:  # one layer, not a Sequential
        layers.setdefault("0", {})[rest] = torch.from_numpy(np.array(x))
  assert layers
  built, last = [], None
  for place, state in layers.items():
    number = int(place.rpartition(".")[2])
    if last is not None and number != last + 1:
      built.append(activation())
    weight = state.get("weight")
    if weight is not None and weight.ndim == 2:
      layer = torch.nn.Linear(*weight.shape[::-1], bias="bias" in state)
    else:
      size = len(state["running_mean"])
      layer = torch.nn.BatchNorm1d(size, affine=weight is not None)
    layer.double().load_state_dict(state)
    built.append(layer)
    last = number
  return torch.nn.Sequential(*built)


def frozen(tensors):
  """SimSiam's bias before BatchNorm, as zeros.

  We have none: in training BatchNorm takes it away. Its running mean is that of
  outputs with the bias, so in evaluation they are apart by it.
  """
  return {
    n: np.zeros_like(x) for n, x in tensors.items() if n.endswith("fc.6.bias")
  }


def activation_of(name):
  is_dino = name in ("dino", "solo_learn dino", "lightly dino")
  return (torch.nn.GELU, "gelu") if is_dino else (torch.nn.ReLU, "relu")


def ours_of(network, role, head, activation):
  """(module, variables) of a head."""
  module = heads.MLP(**network.config.objective[head], activation=activation)
  params = network.tree(role, "params")[head]
  statistics = network.tree(role, "batch_stats").get(head, {})
  return module, {"params": params, "batch_stats": statistics}


def test_no_format_with_heads_is_forgotten():
  """The others are encoders, or have heads of a method and program above."""
  without = {"mae", "mmae", "vit_timm", "resnet_torchvision", "resnet18"}
  alike = {
    *("dino resnet", "solo_learn swav", "solo_learn deepclusterv2"),
    *("lightly swav", "lightly numbered"),
    *("solo_learn mae", "lightly mae"),
  }
  assert set(foreign.ALL) == {*HEADS, *CLASSES, *without, *alike}


@pytest.mark.parametrize("name", HEADS)
def test_heads(name):
  tensors, network = read(name)
  theirs_activation, activation = activation_of(name)
  for prefix, role, head in HEADS[name]:
    theirs = sequential(tensors, prefix, theirs_activation)
    x = np.random.default_rng(1).normal(size=(ROWS, theirs[0].in_features))
    with jax.enable_x64(True), torch.no_grad():
      module, variables = ours_of(network, role, head, activation)
      for train in (False, True):
        run = functools.partial(
          module.apply, train=train, mutable=["batch_stats"]
        )
        got, _ = jax.jit(run)(variables, x)
        named = tensors if train else tensors | frozen(tensors)
        theirs = sequential(named, prefix, theirs_activation)
        expected = theirs.train(train)(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CLASSES)
def test_scores_of_classes(name):
  tensors, network = read(name)
  theirs_activation, activation = activation_of(name)
  prefix, last, role = CLASSES[name]
  theirs = sequential(tensors, prefix, theirs_activation).eval()
  x = np.random.default_rng(2).normal(size=(ROWS, theirs[0].in_features))
  if f"{last}.weight_v" in tensors:
    v = torch.from_numpy(tensors[f"{last}.weight_v"])
    length = torch.from_numpy(tensors[f"{last}.weight_g"])
    weight, form = length * v / v.norm(dim=1, keepdim=True), "direction"
  else:
    weight, form = torch.from_numpy(tensors[f"{last}.weight"]), "vector"
  with jax.enable_x64(True), torch.no_grad():
    z = torch.nn.functional.normalize(theirs(torch.from_numpy(x)), dim=1)
    module, variables = ours_of(network, role, "projector", activation)
    prototypes = heads.Prototypes(len(weight), form)
    kernel = network.tree(role, "params")["prototypes"]["kernel"]

    @jax.jit
    def run(variables, kernel, x):
      ours = module.apply(variables, x, train=False)
      return prototypes.apply({"params": {"kernel": kernel}}, ours)

    got = run(variables, kernel, x)
    np.testing.assert_allclose(
      got, (z @ weight.T).numpy(), rtol=1e-10, atol=1e-10
    )
