"""Datasets with the names and features of tfds's own, and a few images."""

import io

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

# name: (image shape, format, classes, version, {split: images})
_KNOWN = {
  "cifar10": ((32, 32, 3), "png", 10, "3.0.2", {"train": 200, "test": 40}),
  "imagenet2012": (
    (None, None, 3),
    "jpeg",
    1000,
    "5.1.0",
    {"train": 200, "validation": 40},
  ),
}


def prepare(name, folder):
  """Writes a small dataset of that name where tfds would look for it."""
  shape, kind, classes, version, splits = _KNOWN[name]

  class Fake(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The same features, random images."""

    VERSION = tfds.core.Version(version)

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(
          {
            "image": tfds.features.Image(shape=shape, encoding_format=kind),
            "label": tfds.features.ClassLabel(num_classes=classes),
          }
        ),
      )

    def _split_generators(self, dl_manager):
      del dl_manager
      return {
        split: self._generate_examples(split, n) for split, n in splits.items()
      }

    def _generate_examples(self, split, count):
      rng = np.random.default_rng(len(split))
      for i in range(count):
        size = [side or rng.integers(40, 80) for side in shape[:2]]
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, kind)
        encoded.seek(0)
        yield i, {"image": encoded, "label": i % 10}

  Fake.name = name
  builder = Fake(data_dir=folder)
  builder.download_and_prepare(file_format="array_record")
