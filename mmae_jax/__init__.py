"""Self-supervised vision with matrix-information objectives, in JAX and Flax.

Nothing is imported here, so that `from mmae_jax import information` loads
neither the data readers nor the checkpoint library.
"""

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder"]


def __getattr__(name: str):
  if name == "load_encoder":
    from mmae_jax.evaluate.encoder import load_encoder

    return load_encoder
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
