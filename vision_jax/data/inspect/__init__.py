"""What is known of a data set before training on it."""
