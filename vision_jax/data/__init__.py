"""From image files and published archives to batches: sources, splits, loading, and augmentation on the device."""
