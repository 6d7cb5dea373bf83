"""The embedded images: scikit-learn's digits as a tfds dataset."""
