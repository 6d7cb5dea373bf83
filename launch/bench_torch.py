"""Baselines of launch/bench.py in PyTorch.

The same step by Hugging Face, and the forms of the regularisers that the
authors' programs use, written from the formulas (see `bench_forms`).
"""


def step(config, compile_flag):
  """(run, report): ViTMAEForPreTraining with AdamW of the same numbers."""
  import jax
  import torch
  import transformers

  view, encoder = config.views["global"], config.encoder
  objective, optimizer = config.objective, config.optimizer
  on_gpu = jax.default_backend() == "gpu"
  device = "cuda" if on_gpu else "cpu"
  low = encoder.dtype == "bfloat16"
  compiled = compile_flag == "on" or (compile_flag == "auto" and on_gpu)
  # As JAX's default precision does on such a device.
  torch.backends.cuda.matmul.allow_tf32 = True
  torch.backends.cudnn.allow_tf32 = True
  model = transformers.ViTMAEForPreTraining(
    transformers.ViTMAEConfig(
      hidden_size=encoder.width,
      num_hidden_layers=encoder.depth,
      num_attention_heads=encoder.heads,
      intermediate_size=int(encoder.width * encoder.mlp_ratio),
      image_size=view.size,
      patch_size=encoder.patch_size,
      decoder_hidden_size=objective.decoder_width,
      decoder_num_hidden_layers=objective.decoder_depth,
      decoder_num_attention_heads=objective.decoder_heads,
      decoder_intermediate_size=int(
        objective.decoder_width * encoder.mlp_ratio
      ),
      mask_ratio=objective.mask_ratio,
      norm_pix_loss=objective.normalise_patches,
      layer_norm_eps=1e-6,
      attn_implementation="sdpa",
    )
  )
  model = model.to(device).train()
  if encoder.remat:
    model.gradient_checkpointing_enable()
  adamw = torch.optim.AdamW(
    [p for p in model.parameters() if p.requires_grad],
    lr=optimizer.base_learning_rate,
    betas=(optimizer.b1, optimizer.b2),
    eps=optimizer.eps,
    weight_decay=optimizer.weight_decay,
    fused=on_gpu,
  )
  forward = torch.compile(model) if compiled else model
  images = torch.randn(
    config.batch_size, 3, view.size, view.size, device=device
  )

  def run(steps):
    for _ in range(steps):
      adamw.zero_grad(set_to_none=True)
      with torch.autocast(device, dtype=torch.bfloat16, enabled=low):
        loss = forward(images).loss
      loss.backward()
      adamw.step()
    return loss.item()  # waits for the device

  def used():
    return torch.cuda.max_memory_allocated() if on_gpu else None

  return run, {
    "compile_seconds": 0.0,
    "memory_bytes": used,
    "how": (
      f"ViTMAEForPreTraining, transformers {transformers.__version__}, PyTorch"
      f" {torch.__version__}, {'torch.compile' if compiled else 'eager'}, sdpa,"
      f" {'autocast bfloat16' if low else 'float32'}, TF32 allowed,"
      f" {'fused ' if on_gpu else ''}AdamW, MAE loss"
    ),
  }


def two_view(config, compile_flag):
  """(run, report): SimSiam forward and backward on both views."""
  import jax
  import torch
  import transformers

  on_gpu = jax.default_backend() == "gpu"
  device = "cuda" if on_gpu else "cpu"
  low = config.encoder.dtype == "bfloat16"
  compiled = compile_flag == "on" or (compile_flag == "auto" and on_gpu)
  torch.backends.cuda.matmul.allow_tf32 = True
  torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True  # picks the fastest convolutions
  size = config.views["global"].size
  backbone, represent, width = _backbone(config.encoder, size)
  if config.encoder.remat:
    backbone.gradient_checkpointing_enable()
  objective = config.objective
  projector = _head(width, objective.projector.widths)
  projector.append(
    torch.nn.BatchNorm1d(projector[-1].out_features, affine=False)
  )
  predictor = _head(
    objective.projector.widths[-1], objective.predictor.widths, last_bias=True
  )
  network = torch.nn.ModuleList([backbone, projector, predictor])
  # Where cuDNN has its fastest convolutions.
  network = network.to(device, memory_format=torch.channels_last).train()

  def loss(first, second):
    z1, z2 = (projector(represent(backbone, x)) for x in (first, second))
    p1, p2 = predictor(z1), predictor(z2)
    return -(_cosine(p1, z2) + _cosine(p2, z1)) / 2

  forward = torch.compile(loss) if compiled else loss
  views = [
    torch.randn(config.batch_size, 3, size, size, device=device).contiguous(
      memory_format=torch.channels_last
    )
    for _ in range(2)
  ]

  def run(steps):
    for _ in range(steps):
      network.zero_grad(set_to_none=True)
      with torch.autocast(device, dtype=torch.bfloat16, enabled=low):
        value = forward(*views)
      value.backward()
    return value.item()  # waits for the device

  def used():
    return torch.cuda.max_memory_allocated() if on_gpu else None

  return run, {
    "temporary_bytes": used,
    "flops": None,
    "how": (
      f"the same by {type(backbone).__name__}, transformers"
      f" {transformers.__version__}, PyTorch {torch.__version__},"
      f" {'torch.compile' if compiled else 'eager'}, channels last,"
      f" {'autocast bfloat16' if low else 'float32'}, TF32 allowed; memory is"
      " all that was allocated"
    ),
  }


def _backbone(encoder, size):
  """(module, (module, images) -> features, width of a feature)."""
  import torch
  import transformers

  if encoder.name == "vit":
    module = transformers.ViTModel(
      transformers.ViTConfig(
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        intermediate_size=int(encoder.width * encoder.mlp_ratio),
        image_size=size,
        patch_size=encoder.patch_size,
        layer_norm_eps=1e-6,
        attn_implementation="sdpa",
      ),
      add_pooling_layer=False,
    )
    return module, lambda m, x: m(x).last_hidden_state[:, 0], encoder.width
  from mmae_jax.models import resnet

  counts, bottleneck = resnet.STAGES[encoder.depth]
  first = int(64 * encoder.width_multiplier)
  widths = [first * 2**i * (4 if bottleneck else 1) for i in range(4)]
  module = transformers.ResNetModel(
    transformers.ResNetConfig(
      embedding_size=first,
      hidden_sizes=widths,
      depths=counts,
      layer_type="bottleneck" if bottleneck else "basic",
    )
  )
  if encoder.stem == "small":
    module.embedder.embedder.convolution = torch.nn.Conv2d(
      3, first, 3, padding=1, bias=False
    )
    module.embedder.pooler = torch.nn.Identity()
  return module, lambda m, x: m(x).pooler_output.flatten(1), widths[-1]


def _head(width, widths, last_bias=False):
  """Linear layers, between them BatchNorm and ReLU."""
  import torch

  layers = []
  for out in widths[:-1]:
    layers += [
      torch.nn.Linear(width, out, bias=False),
      torch.nn.BatchNorm1d(out),
      torch.nn.ReLU(),
    ]
    width = out
  layers.append(torch.nn.Linear(width, widths[-1], bias=last_bias))
  return torch.nn.Sequential(*layers)


def _cosine(prediction, projection):
  import torch

  return torch.nn.functional.cosine_similarity(
    prediction.float(), projection.detach().float()
  ).mean()


# --- The suite `information` -------------------------------------------------
def runner(function, arrays, *, learned, backward):
  """() -> value: calls `function` on tensors, with its gradient if asked.

  Args:
    function: tensors -> scalar tensor.
    arrays: of NumPy.
    learned: the number of leading tensors that get a gradient.
    backward: whether to compute it.
  """
  import jax
  import torch

  device = "cuda" if jax.default_backend() == "gpu" else "cpu"
  torch.backends.cuda.matmul.allow_tf32 = False  # as ours: highest precision
  tensors = [torch.from_numpy(x).to(device) for x in arrays]

  def run():
    leaves = [x.detach() for x in tensors]
    for x in leaves[:learned]:
      x.requires_grad_(backward)
    value = function(*leaves)
    if backward:
      value.backward()
    return value.item()  # waits for the device

  return run


def coding_rate(z):
  """log det(I + Z^T Z / dim) of the [dim, dim] matrix."""
  import torch

  z = torch.nn.functional.normalize(z)
  dim = z.shape[1]
  eye = torch.eye(dim, dtype=z.dtype, device=z.device)
  return torch.logdet(eye + z.T @ z / dim)


def mean_squared_cosine(z):
  """Mean of the squared entries of the [batch, batch] matrix of cosines."""
  import torch

  z = torch.nn.functional.normalize(z)
  return (z @ z.T).square().mean()


def matrix_ssl(z1, z2, p1, p2):
  """`bench_forms.dense_matrix_ssl`."""
  import torch

  def unit(z):
    z = torch.nn.functional.normalize(z)
    return z - z.mean(dim=0)

  def cross_entropy(p, q):
    e = q - torch.eye(q.shape[0], dtype=q.dtype, device=q.device)
    power = log = e
    for k in range(2, 5):
      power = power @ e
      log = log + (-1) ** (k + 1) / k * power
    return -torch.trace(p @ log)

  def term(p, z):
    p, z = unit(p), unit(z)
    batch, dim = z.shape
    eye = torch.eye(dim, dtype=z.dtype, device=z.device)
    uniformity = cross_entropy(eye, p.T @ z / batch + eye)
    alignment = cross_entropy(p.T @ p / batch + eye, z.T @ z / batch + eye)
    return uniformity + alignment

  return (term(p2, z1) + term(p1, z2)) / 2
