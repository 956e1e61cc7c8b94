"""A training loop for two towers and an index layer: one user of the public layer."""
