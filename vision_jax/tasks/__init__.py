"""What can be trained: each task gives the loop its step, its evaluation and its report."""
