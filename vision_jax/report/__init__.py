"""What a run shows of itself: plots, and a page that needs nothing but a browser."""
