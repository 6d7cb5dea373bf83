"""Accuracies of a run of ours and of its twin from PyTorch."""

import pathlib
from typing import Any

import numpy as np
import torch
from torch_reference import trainer

from mmae_jax.data import crops, photometry, source as source_lib
from mmae_jax.evaluate import command, knn, linear
from mmae_jax.interop import command as interop
from parity_suites import feed

_NAMES = ("train", "train_labels", "test", "test_labels")


def accuracies(folder: pathlib.Path, config: Any) -> dict[str, Any]:
  """k-NN and logistic regression of both encoders, by the same functions.

  Args:
    folder: with jax/, the run, and torch.pth, the reference's weights.
    config: of the run.
  Returns:
    "linear" and "knn", both {"jax", "torch"}, in [0, 1]; "features": how far
    PyTorch's features of the test split are from those of its weights in our
    network, the norm of the difference over their own.
  """
  encoder, view = config.encoder, config.views["global"]
  converted = folder / "converted"
  if not converted.exists():
    interop.convert(
      folder / "torch.pth",
      converted,
      name=feed.FORMATS[config.objective.name],
      options={
        "heads": encoder.heads,
        "decoder_heads": config.objective.get("decoder_heads"),
        "image_size": None if encoder.name == "vit" else view.size,
        "mean": view.mean,
        "std": view.std,
      },
      say=_quiet,
    )
  arrays = {
    "jax": _features(folder / "jax", folder),
    "torch": _features(converted, folder),
  }
  theirs = _features_of_torch(folder / "torch.pth", config)
  ours = arrays["torch"]["test"]
  settings = config.evaluation
  return {
    "linear": {
      side: linear.logistic_regression(
        *(x[name] for name in _NAMES), c=settings.linear.c
      )
      for side, x in arrays.items()
    },
    "knn": {
      side: knn.knn_accuracy(*(x[name] for name in _NAMES), **settings.knn)
      for side, x in arrays.items()
    },
    "features": float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
  }


def _quiet(line):
  del line


def _features(run, folder):
  path = folder / f"{run.name}.npz"
  command.evaluate("features", run, out=str(path), say=_quiet)
  with np.load(path) as file:
    return dict(file)


def _features_of_torch(path, config):
  """The reference's own features of the test split, [images, dim]."""
  _, test = source_lib.open_sources(config)
  view = config.views["global"]
  images = np.stack(
    [
      crops.centre_view(
        test[i]["image"], view.size, interpolation=view.interpolation
      )
      for i in range(len(test))
    ]
  )
  pixels = photometry.normalise(images, mean=view.mean, std=view.std)
  network = trainer.build(config.to_dict())
  tensors = {n: x.numpy() for n, x in torch.load(path)["model"].items()}
  trainer.load(network, tensors)
  network.eval()
  with torch.no_grad():
    features = network.represent(torch.from_numpy(np.array(pixels)))
  return features.numpy()
