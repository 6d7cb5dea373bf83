"""The baseline of launch/bench.py: the same step by Hugging Face in PyTorch."""


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
