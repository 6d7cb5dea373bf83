"""Builders of our own, one folder each as tfds expects."""
