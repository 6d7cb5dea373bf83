"""State dicts with the names and shapes of other programs, at small widths.

Written from the tables of names of the programs' files; random numbers. `ALL`
has for each format a function to the content of a file: nested dictionaries of
NumPy arrays, as torch.save would hold them.
"""

import numpy as np

WIDTH, HIDDEN, OUT, CLASSES, PROTOTYPES = 16, 12, 8, 5, 7
CHANNELS = 4  # of a ResNet's first convolution


class Draw:
  """Arrays whose numbers all differ."""

  def __init__(self, seed=0):
    self._rng = np.random.default_rng(seed)

  def __call__(self, *shape, positive=False, dtype=np.float32):
    x = self._rng.normal(size=shape) * 0.2
    return (np.abs(x) + 0.5 if positive else x).astype(dtype)

  def linear(self, name, inputs, outputs, *, bias=True):
    found = {f"{name}.weight": self(outputs, inputs)}
    return found | ({f"{name}.bias": self(outputs)} if bias else {})

  def norm(self, name, width, *, affine=True, running=True):
    found = {}
    if affine:
      found |= {f"{name}.weight": self(width), f"{name}.bias": self(width)}
    if running:
      found |= {
        f"{name}.running_mean": self(width),
        f"{name}.running_var": self(width, positive=True),
        f"{name}.num_batches_tracked": np.asarray(17, np.int64),
      }
    return found

  def resnet(self, prefix="", *, bottleneck=True, stem=7, fc=0):
    """ResNet-50, or 18, with few channels."""
    c = CHANNELS
    found = {f"{prefix}conv1.weight": self(c, 3, stem, stem)}
    found |= self.norm(f"{prefix}bn1", c)
    inputs = c
    for s, blocks in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
      width = c * 2**s
      outputs = 4 * width if bottleneck else width
      kernels = (1, 3, 1) if bottleneck else (3, 3)
      for b in range(blocks):
        block = f"{prefix}layer{s + 1}.{b}"
        sizes = [inputs, *([width] * (len(kernels) - 1)), outputs]
        for j, k in enumerate(kernels):
          found[f"{block}.conv{j + 1}.weight"] = self(
            sizes[j + 1], sizes[j], k, k
          )
          found |= self.norm(f"{block}.bn{j + 1}", sizes[j + 1])
        if b == 0 and (s or bottleneck):
          shortcut = f"{block}.downsample"
          found[f"{shortcut}.0.weight"] = self(outputs, inputs, 1, 1)
          found |= self.norm(f"{shortcut}.1", outputs)
        inputs = outputs
    if fc:
      found |= self.linear(f"{prefix}fc", inputs, fc)
    return found

  def block(self, name, d):
    return {
      **self.norm(f"{name}.norm1", d, running=False),
      **self.linear(f"{name}.attn.qkv", d, 3 * d),
      **self.linear(f"{name}.attn.proj", d, d),
      **self.norm(f"{name}.norm2", d, running=False),
      **self.linear(f"{name}.mlp.fc1", d, 2 * d),
      **self.linear(f"{name}.mlp.fc2", 2 * d, d),
    }

  def vit(self, prefix="", *, positions=None, head=0, d=WIDTH):
    """Two blocks, patches of 4 x 4 of an image of 8 x 8."""
    found = {
      "cls_token": self(1, 1, d),
      "pos_embed": self(1, 5, d) if positions is None else positions,
      "patch_embed.proj.weight": self(d, 3, 4, 4),
      "patch_embed.proj.bias": self(d),
      **self.block("blocks.0", d),
      **self.block("blocks.1", d),
      **self.norm("norm", d, running=False),
    }
    if head:
      found |= self.linear("head", d, head)
    return {prefix + name: x for name, x in found.items()}

  def mae_decoder(self, prefix="", *, positions, blocks="decoder_blocks"):
    d = positions.shape[-1]
    found = {
      "mask_token": self(1, 1, d),
      "decoder_pos_embed": positions,
      **self.linear("decoder_embed", WIDTH, d),
      **self.block(f"{blocks}.0", d),
      **self.norm("decoder_norm", d, running=False),
      **self.linear("decoder_pred", d, 48),
    }
    return {prefix + name: x for name, x in found.items()}

  def mlp(
    self, name, sizes, *, bias=False, last_bias=False, last="", norm=True
  ):
    """A Sequential of linear layers; last: "" none, "plain" or "affine"."""
    found, at = {}, 0
    for k, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
      is_last = k == len(sizes) - 2
      has_bias = last_bias if is_last else bias
      found |= self.linear(f"{name}.{at}", inputs, outputs, bias=has_bias)
      if is_last:
        if last:
          found |= self.norm(
            f"{name}.{at + 1}", outputs, affine=last == "affine"
          )
      elif norm:
        found |= self.norm(f"{name}.{at + 1}", outputs)
      at += 3 if norm else 2
    return found

  def weight_norm(self, name, count, width):
    return {
      f"{name}.weight_g": np.ones((count, 1), np.float32),
      f"{name}.weight_v": self(count, width),
    }


def sines(width, grid=2):
  """MAE's fixed positions, written out; the class token's are zeros."""
  w = 10000.0 ** (-np.arange(width // 4) / (width // 4))
  rows = []
  for y in range(grid):
    for x in range(grid):
      rows.append(
        np.concatenate(
          [np.sin(x * w), np.cos(x * w), np.sin(y * w), np.cos(y * w)]
        )
      )
  table = np.concatenate([np.zeros((1, width)), np.stack(rows)])
  return table[None].astype(np.float32)


def renamed(named, old, new):
  return {new + n.removeprefix(old): x for n, x in named.items()}


def twin(named, old, new, seed=9):
  """Other numbers under other names, as of a momentum network."""
  rng = np.random.default_rng(seed)
  return {
    new + n.removeprefix(old): x
    if x.dtype == np.int64
    else x + rng.uniform(0, 0.1, x.shape).astype(x.dtype)
    for n, x in named.items()
    if n.startswith(old)
  }


def wrapped(named, key="state_dict", prefix="module.", **more):
  return {"epoch": 3, key: renamed(named, "", prefix), **more}


FEATURES = 32 * CHANNELS  # of ResNet-50


def mae():
  draw = Draw()
  return {
    "model": {
      **draw.vit(positions=sines(WIDTH)),
      **draw.mae_decoder(positions=sines(8)),
    },
    "epoch": 1,
  }


def mmae():
  draw, content = Draw(1), mae()
  content["model"] |= draw.norm("fc_norm", WIDTH, running=False)
  content["model"] |= draw.linear("fc", WIDTH, CLASSES)
  return content


def moco(version=2):
  draw = Draw(2)
  query = draw.resnet("encoder_q.")
  if version == 1:
    query |= draw.linear("encoder_q.fc", FEATURES, OUT)
  else:
    query |= draw.mlp(
      "encoder_q.fc",
      (FEATURES, HIDDEN, OUT),
      bias=True,
      last_bias=True,
      norm=False,
    )
  queue = draw(OUT, 10)
  rest = {"queue": queue, "queue_ptr": np.asarray([4], np.int64)}
  return wrapped(query | twin(query, "encoder_q.", "encoder_k.") | rest)


def moco_v3(vit=False):
  draw, base = Draw(3), "base_encoder."
  if vit:
    encoder = draw.vit(base) | draw.mlp(
      f"{base}head", (WIDTH, HIDDEN, HIDDEN, OUT), last="plain"
    )
    last = "plain"
  else:
    encoder = draw.resnet(base) | draw.mlp(
      f"{base}fc", (FEATURES, HIDDEN, OUT), last="plain"
    )
    last = ""
  predictor = draw.mlp("predictor", (OUT, HIDDEN, OUT), last=last)
  return wrapped(
    encoder | predictor | twin(encoder, base, "momentum_encoder."),
    scaler={"scale": 1.0},
  )


def simsiam(teacher=False):
  draw = Draw(4)
  encoder = draw.resnet("encoder.") | draw.mlp(
    "encoder.fc",
    (FEATURES, HIDDEN, HIDDEN, OUT),
    last_bias=True,
    last="plain",
  )
  predictor = draw.mlp("predictor", (OUT, HIDDEN, OUT), last_bias=True)
  momentum = twin(encoder, "encoder.", "teacher.") if teacher else {}
  return wrapped(encoder | predictor | momentum, arch="resnet50")


def barlow_twins():
  draw = Draw(5)
  return wrapped(
    draw.resnet("backbone.")
    | draw.mlp("projector", (FEATURES, HIDDEN, HIDDEN, OUT))
    | draw.norm("bn", OUT, affine=False),
    "model",
  )


def vicreg():
  draw = Draw(6)
  return wrapped(
    draw.resnet("backbone.")
    | draw.mlp("projector", (FEATURES, HIDDEN, HIDDEN, OUT), bias=True),
    "model",
  )


def swav(clusterings=0):
  draw = Draw(7)
  named = draw.resnet() | draw.mlp(
    "projection_head", (FEATURES, HIDDEN, OUT), bias=True, last_bias=True
  )
  if clusterings:
    for k in range(clusterings):
      named[f"prototypes.prototypes{k}.weight"] = draw(PROTOTYPES, OUT)
    return wrapped(named)
  named["prototypes.weight"] = draw(PROTOTYPES, OUT)
  return renamed(named, "", "module.")  # as released


def spectral_contrastive():
  draw = Draw(8)
  named = draw.resnet("backbone.")
  sizes = (FEATURES, HIDDEN, HIDDEN, OUT)
  for k in range(3):
    layer = f"backbone.proj_resnet_layer{k + 1}"
    named |= draw.linear(f"{layer}.0", sizes[k], sizes[k + 1])
    named |= draw.norm(f"{layer}.1", sizes[k + 1])
  copy = renamed(named, "backbone.", "encoder.0.")
  return wrapped(named | copy, prefix="")


def dino(resnet=False):
  draw = Draw(10)
  features = FEATURES if resnet else WIDTH
  encoder = draw.resnet("backbone.") if resnet else draw.vit("backbone.")
  head = draw.mlp(
    "head.mlp",
    (features, HIDDEN, HIDDEN, OUT),
    bias=True,
    last_bias=True,
    norm=False,
  ) | draw.weight_norm("head.last_layer", PROTOTYPES, OUT)
  student = encoder | head
  teacher = twin(student, "", "")
  teacher["head.last_layer.weight_g"] = student["head.last_layer.weight_g"]
  return {
    "student": renamed(student, "", "module."),
    "teacher": renamed(teacher, "", "module." if resnet else ""),
    "optimizer": {},
    "epoch": 3,
    "dino_loss": {"center": draw(1, PROTOTYPES)},
  }


def lightning(named):
  return {
    "pytorch-lightning_version": "2.6",
    "epoch": 2,
    "state_dict": named,
  }


def solo_learn(method="barlow_twins"):
  draw = Draw(11)
  named = draw.resnet("backbone.", bottleneck=False, stem=3)
  features = 8 * CHANNELS
  sizes = (features, HIDDEN, HIDDEN, OUT)
  if method == "mae":
    named = draw.vit("backbone.", positions=sines(WIDTH))
    named |= draw.mae_decoder("decoder.", positions=sines(8))
    features = WIDTH
  elif method == "barlow_twins":
    named |= draw.mlp("projector", sizes, bias=True, last_bias=True)
  elif method == "simclr":
    named |= draw.mlp(
      "projector",
      (features, HIDDEN, OUT),
      bias=True,
      last_bias=True,
      norm=False,
    )
  elif method == "byol":
    twins = named | draw.mlp(
      "projector", (features, HIDDEN, OUT), bias=True, last_bias=True
    )
    named = twins | draw.mlp(
      "predictor", (OUT, HIDDEN, OUT), bias=True, last_bias=True
    )
    named |= twin(twins, "", "momentum_")
    named |= draw.linear("momentum_classifier", features, CLASSES)
  elif method == "dino":
    twins = (
      named
      | draw.mlp(
        "head.mlp",
        sizes,
        bias=True,
        last_bias=True,
        norm=False,
      )
      | draw.weight_norm("head.last_layer", PROTOTYPES, OUT)
    )
    named = twins | twin(twins, "", "momentum_")
    named["dino_loss_func.center"] = draw(1, PROTOTYPES)
  elif method == "swav":
    named |= draw.mlp(
      "projector", (features, HIDDEN, OUT), bias=True, last_bias=True
    )
    named |= draw.weight_norm("prototypes", PROTOTYPES, OUT)
    named["queue"] = draw(2, 6, OUT)
  elif method == "deepclusterv2":
    named |= draw.mlp(
      "projector", (features, HIDDEN, OUT), bias=True, last_bias=True
    )
    for k in range(2):
      named[f"prototypes.{k}.weight"] = draw(PROTOTYPES, OUT)
    named["local_memory_index"] = np.arange(6)
    named["local_memory_embeddings"] = draw(2, 6, OUT)
  return lightning(named | draw.linear("classifier", features, CLASSES))


def lightly(method="byol"):
  draw, head = Draw(12), "projection_head.layers"
  named = draw.resnet("backbone.")
  if method == "byol":
    twins = named | draw.mlp(head, (FEATURES, HIDDEN, OUT), last_bias=True)
    named = twins | draw.mlp(
      "prediction_head.layers", (OUT, HIDDEN, OUT), last_bias=True
    )
    named |= twin(twins, "", "teacher_")
  elif method == "simclr":
    named |= draw.mlp(head, (FEATURES, HIDDEN, OUT), last="affine")
  elif method == "mocov2":
    twins = named | draw.mlp(
      head, (FEATURES, HIDDEN, OUT), bias=True, last_bias=True, norm=False
    )
    named = twins | twin(twins, "", "key_")
  elif method == "swav":
    named |= draw.mlp(head, (FEATURES, HIDDEN, OUT), last_bias=True)
    named |= draw.linear("prototypes.heads.0", OUT, PROTOTYPES)
  elif method == "dino":
    named |= draw.mlp(
      head,
      (FEATURES, HIDDEN, HIDDEN, OUT),
      bias=True,
      last_bias=True,
      norm=False,
    )
    named |= draw.weight_norm("projection_head.last_layer", PROTOTYPES, OUT)
    named |= twin(named, "", "student_")
    named["criterion.center"] = draw(1, 1, PROTOTYPES)
  elif method == "mae":
    named = draw.vit("backbone.vit.", positions=sines(WIDTH), head=CLASSES)
    named["backbone.mask_token"] = draw(1, 1, WIDTH)
    decoder = draw.mae_decoder(positions=sines(8), blocks="decoder.blocks")
    names = {
      "mask_token": "decoder.mask_token",
      "decoder_pos_embed": "decoder.pos_embed",
      "decoder_norm.weight": "decoder.norm.weight",
      "decoder_norm.bias": "decoder.norm.bias",
      "decoder_pred.weight": "prediction_head.weight",
      "decoder_pred.bias": "prediction_head.bias",
    }
    named |= {names.get(n, n): x for n, x in decoder.items()}
  elif method == "numbered":  # a Sequential of the ResNet's parts
    numbers = {"conv1": "0", "bn1": "1"}
    numbers |= {f"layer{s}": str(s + 3) for s in range(1, 5)}
    plain, named = draw.resnet(), {}
    for name, x in plain.items():
      first, _, rest = name.partition(".")
      named[f"backbone.{numbers[first]}.{rest}"] = x
    named |= draw.mlp(head, (FEATURES, HIDDEN, OUT), last="affine")
  features = WIDTH if method == "mae" else FEATURES
  probe = "online_classifier.classification_head"
  return lightning(named | draw.linear(probe, features, CLASSES))


def vit_timm():
  return Draw(13).vit(head=CLASSES)


def resnet_torchvision(bottleneck=True):
  return Draw(14).resnet(bottleneck=bottleneck, fc=CLASSES)


ALL = {
  "mae": ("mae", mae),
  "mmae": ("mmae", mmae),
  "moco v1": ("moco", lambda: moco(1)),
  "moco v2": ("moco", moco),
  "moco_v3": ("moco_v3", moco_v3),
  "moco_v3 vit": ("moco_v3", lambda: moco_v3(vit=True)),
  "simsiam": ("simsiam", simsiam),
  "mec": ("mec", lambda: simsiam(teacher=True)),
  "barlow_twins": ("barlow_twins", barlow_twins),
  "vicreg": ("vicreg", vicreg),
  "swav": ("swav", swav),
  "deepcluster": ("deepcluster", lambda: swav(3)),
  "spectral": ("spectral_contrastive", spectral_contrastive),
  "dino": ("dino", dino),
  "dino resnet": ("dino", lambda: dino(resnet=True)),
  **{
    f"solo_learn {m}": ("solo_learn", lambda m=m: solo_learn(m))
    for m in (
      *("barlow_twins", "simclr", "byol", "dino", "swav", "deepclusterv2"),
      "mae",
    )
  },
  **{
    f"lightly {m}": ("lightly", lambda m=m: lightly(m))
    for m in ("byol", "simclr", "mocov2", "swav", "mae", "numbered")
  },
  "lightly dino": ("lightly_dino", lambda: lightly("dino")),
  "vit_timm": ("vit_timm", vit_timm),
  "resnet_torchvision": ("resnet_torchvision", resnet_torchvision),
  "resnet18": ("resnet_torchvision", lambda: resnet_torchvision(False)),
}
