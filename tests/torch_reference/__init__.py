"""The library's losses, and five methods, in plain PyTorch from their formulas.

What launch/parity.py holds ours against where no other program has it. It
knows nothing of JAX: weights, images and noise come as NumPy arrays, and
forward pass, loss, gradient, optimizer, schedules and teacher are its own or
PyTorch's. Modules are called as in the files of the papers' programs, so that
`mmae_jax.interop` brings weights in and out.

  vit.py          vision transformer and MAE's decoder
  resnet.py       residual network, heads, two-view networks
  information.py  entropies, divergences, coding rates
  losses.py       masked and two-view methods
  class_losses.py ER, and methods of classes
  optimizers.py   schedules, AdamW, SGD, LARS
  trainer.py      one method, step by step
"""
