"""Published weights: read safely, ported to this project's networks, fetched and kept."""
