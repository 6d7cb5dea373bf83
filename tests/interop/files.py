"""Files of PyTorch for the tests, and conversions that print nothing."""

import numpy as np

from mmae_jax import interop


def in_torch(content):
  """Nested dictionaries with tensors in the place of NumPy arrays."""
  import torch

  if isinstance(content, dict):
    return {name: in_torch(x) for name, x in content.items()}
  return torch.from_numpy(x) if isinstance(x := content, np.ndarray) else x


def save(path, content):
  """Writes such a dictionary with torch.save; returns the path."""
  import torch

  torch.save(in_torch(content), path)
  return path


def assert_same_tensors(one, other):
  """Names, types, shapes and numbers are the same."""
  import torch

  assert one.keys() == other.keys()
  for name, x in one.items():
    assert x.dtype == other[name].dtype, name
    assert x.shape == other[name].shape, name
    assert torch.equal(x, other[name]), name


def quietly(source, target, **kwargs):
  """(network, lines that were said) of a conversion."""
  lines = []
  network = interop.convert(source, target, say=lines.append, **kwargs)
  return network, lines
