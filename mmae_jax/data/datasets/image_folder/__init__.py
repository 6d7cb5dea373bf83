"""One's own folder of images as a tfds dataset."""
