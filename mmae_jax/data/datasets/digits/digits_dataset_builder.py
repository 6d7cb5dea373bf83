"""scikit-learn's 8 x 8 digits, made RGB, as a tfds dataset of encoded PNGs.

The examples are encoded here and handed over as a stream, so that neither
preparing nor reading needs TensorFlow.
"""

import io

import numpy as np
import tensorflow_datasets as tfds

from mmae_jax.data import images

_DESCRIPTION = """\
1,797 handwritten digits of 8 x 8 pixels, grey made RGB; 1,437 for training and
360 for testing, split with train_test_split(test_size=0.2, stratify=labels,
random_state=0).
"""
_HOMEPAGE = "https://archive.ics.uci.edu/dataset/80"
_LEVELS = 16  # the originals count ink from 0 to 16


class Builder(tfds.core.GeneratorBasedBuilder):
  """Digits, prepared without TensorFlow."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      homepage=_HOMEPAGE,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
          "label": tfds.features.ClassLabel(
            names=[str(digit) for digit in range(10)]
          ),
        }
      ),
      supervised_keys=("image", "label"),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing to download
    # Not at the top: 0.7 s of every program's start, and needed only once.
    from sklearn import datasets, model_selection

    digits = datasets.load_digits()
    train, test = model_selection.train_test_split(
      np.arange(len(digits.target)),
      test_size=0.2,
      stratify=digits.target,
      random_state=0,
    )
    return {
      "train": self._generate_examples(digits, train),
      "test": self._generate_examples(digits, test),
    }

  def _generate_examples(self, digits, indices):
    for i in indices:
      grey = np.rint(digits.images[i] * (255 / _LEVELS)).astype(np.uint8)
      pixels = np.repeat(grey[..., None], 3, axis=2)
      yield (
        int(i),
        {
          "image": io.BytesIO(images.encode_png(pixels)),
          "label": int(digits.target[i]),
        },
      )
