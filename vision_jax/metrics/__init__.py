"""Measures of classifiers, of images, and of sets of images: pure functions from arrays to numbers."""
