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
