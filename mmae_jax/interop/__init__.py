"""Weights of other programs, in and out; see README.md."""

from mmae_jax.interop.command import convert as convert
