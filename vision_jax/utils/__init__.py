"""What several rooms need, once: text, files and trees. Nothing here imports the rest of the package."""
