"""One method, trained step by step."""

import copy

import numpy as np
import torch

from torch_reference import losses, optimizers, resnet, vit

_COUNTS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
MASKED = ("mae", "umae", "mmae")
# Where a config says nothing: the heads of the two methods' programs.
_PROJECTORS = {
  "simclr": {"last_bias": False, "last_norm": "scale"},
  "matrix_ssl": {"last_bias": False, "last_norm": "plain"},
}
_PREDICTOR = {"last_bias": True, "last_norm": "none"}
# The only values that the reference has.
_FIXED = {
  "encoder.dtype": "float32",
  "encoder.stem": "small",
  "encoder.group_size": 0,
  "encoder.learned_positions": False,
  "objective.normalise_patches": True,
  "objective.normalise_twice": True,
  "objective.normaliser": "feature_dim",
  "objective.centre": False,
  "objective.joint": True,
  "objective.form": "program",
  "objective.symmetrise": False,
  "optimizer.warmup": "from_zero",
  "optimizer.schedule_per": "step",
  "optimizer.min_learning_rate": 0.0,
  "optimizer.first_learning_rate": 0.0,
  "optimizer.final_weight_decay": None,
  "optimizer.clip_norm": 0.0,
  "optimizer.clip_each": 0.0,
  "optimizer.vector_rate": 1.0,
  "optimizer.constant": (),
  "optimizer.nesterov": False,
  "optimizer.adapt": "matrices",
  "optimizer.rate_inside_momentum": False,
  "optimizer.larc": False,
}


def _check(settings):
  """Raises ValueError for a setting that the reference does not know."""
  masked = settings["objective"]["name"] in MASKED
  for path, expected in _FIXED.items():
    section, key = path.split(".")
    value = settings[section].get(key, expected)
    elsewhere = masked and path in ("encoder.stem", "encoder.group_size")
    if value != expected and not elsewhere:
      raise ValueError(f"{path} must be {expected!r}, got {value!r}")


def _masked(settings):
  encoder, objective = settings["encoder"], settings["objective"]
  shared = {
    "mlp_ratio": encoder["mlp_ratio"],
    "epsilon": encoder["layer_norm_epsilon"],
  }
  return vit.MaskedAutoencoder(
    {
      **{key: encoder[key] for key in ("width", "depth", "heads")},
      "patch": encoder["patch_size"],
      **shared,
    },
    {
      **{key: objective[f"decoder_{key}"] for key in ("width", "depth")},
      "heads": objective["decoder_heads"],
      **shared,
    },
    size=settings["views"]["global"]["size"],
    mask_ratio=objective["mask_ratio"],
  )


def _two_view(settings):
  encoder, objective = settings["encoder"], settings["objective"]
  norm = {
    "epsilon": encoder["norm_epsilon"],
    "momentum": encoder["norm_momentum"],
  }
  width = int(64 * encoder["width_multiplier"])
  backbone = resnet.ResNet(_COUNTS[encoder["depth"]], width, **norm)
  name = objective["name"]
  recipe = {**_PROJECTORS[name], **objective["projector"]}
  projector = resnet.head(backbone.width, recipe, **norm)
  if name == "simclr":
    return resnet.Contrastive(backbone, projector)
  backbone.fc = projector
  predictor = {**_PREDICTOR, **objective["predictor"]}
  return resnet.Siamese(
    backbone,
    copy.deepcopy(backbone),
    resnet.head(recipe["widths"][-1], predictor, **norm),
  )


def build(settings):
  """The network of a method, with weights of its own.

  Args:
    settings: a config as nested dictionaries.
  Returns:
    A module with `represent(images)`.
  Raises:
    ValueError: a setting that the reference does not know.
  """
  _check(settings)
  masked = settings["objective"]["name"] in MASKED
  return (_masked if masked else _two_view)(settings)


def load(network, tensors):
  """Gives a network the weights of NumPy arrays, in the arrays' precision.

  Args:
    network: of `build`.
    tensors: by name. Fixed positions must be those that the network has.
  Raises:
    ValueError: a tensor is missing, unknown, or another constant.
  """
  state = network.state_dict()
  tensors = {name: torch.from_numpy(np.array(x)) for name, x in tensors.items()}
  for name in [n for n in tensors if n not in state]:
    # A bias that a program keeps frozen below a BatchNorm, which removes it.
    if tensors.pop(name).count_nonzero():
      raise ValueError(f"{name}: the reference has no such tensor")
  for name, x in tensors.items():
    if name.endswith("pos_embed") and (state[name] - x).abs().max() > 1e-6:
      raise ValueError(f"{name}: other positions than the reference's")
  network.to(next(iter(tensors.values())).dtype)
  network.load_state_dict(tensors)


class Trainer:
  """A network, its optimizer and its schedules.

  Attributes:
    network: the module.
    done: updates so far.
  """

  def __init__(self, settings, tensors, *, steps_per_epoch, total_steps):
    """Takes over initial weights.

    Args:
      settings: a config as nested dictionaries.
      tensors: initial weights, NumPy arrays by name.
      steps_per_epoch, total_steps: of the run.
    """
    self.network = build(settings)
    load(self.network, tensors)
    self.network.train()
    self.done = 0
    self._objective = settings["objective"]
    self._total = total_steps
    optimizer = settings["optimizer"]
    self._schedule = {
      "peak": optimizer["base_learning_rate"] * settings["batch_size"] / 256,
      "warmup": optimizer["warmup_epochs"] * steps_per_epoch,
      "total": total_steps,
    }
    self._optimizer = optimizers.build(self.network, optimizer)

  def loss(self, views, noise):
    """The scalar of one batch.

    Args:
      views: [batch, views, size, size, 3].
      noise: [batch, patches], or None for methods of two views.
    """
    objective, network = self._objective, self.network
    name = objective["name"]
    if name == "simclr":
      projections = network(views[:, 0], views[:, 1])
      value = losses.simclr(*projections, temperature=objective["temperature"])
      return objective["weight"] * value
    if name == "matrix_ssl":
      (t1, t2), (s1, s2) = network(views[:, 0], views[:, 1])
      return losses.matrix_ssl(
        t1,
        t2,
        s1,
        s2,
        form="program",
        symmetrise=False,
        **{
          key: objective[key]
          for key in ("uniformity", "ridge", "gamma", "order")
        },
      )
    images = views[:, 0]
    prediction, mask, latent = network(images, noise)
    patches = vit.patchify(images, network.patch)
    errors = losses.reconstruction_errors(prediction, patches, mask)
    if name == "mae":
      return losses.mae(errors)
    feature = network.norm(latent[:, 0])  # for the second time
    if name == "umae":
      return losses.umae(errors, feature, weight=objective["weight"])
    return losses.mmae(
      errors,
      feature,
      weight=objective["weight"],
      scale=objective["scale"],
      centre=False,
      normaliser="feature_dim",
    )

  def step(self, views, noise=None):
    """One update on NumPy arrays; see `loss`.

    Returns:
      (loss, norm of the whole gradient), floats.
    """
    views = torch.tensor(views)
    noise = None if noise is None else torch.tensor(noise)
    rate = optimizers.warmup_cosine(self.done, **self._schedule)
    for group in self._optimizer.param_groups:
      group["lr"] = rate
    self._optimizer.zero_grad()
    loss = self.loss(views, noise)
    loss.backward()
    grads = [p.grad for p in self.network.parameters() if p.grad is not None]
    norm = torch.stack([g.norm() for g in grads]).norm()
    self._optimizer.step()
    if hasattr(self.network, "move_teacher"):
      momentum = self._objective["momentum"]
      self.network.move_teacher(
        optimizers.teacher_rate(self.done, momentum=momentum, total=self._total)
      )
    self.done += 1
    return loss.item(), norm.item()

  def tensors(self):
    """All weights and statistics now, NumPy arrays by name."""
    state = self.network.state_dict()
    return {name: x.numpy().copy() for name, x in state.items()}
