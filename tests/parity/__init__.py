"""Networks here against their reference implementations in PyTorch, with the same random weights."""
