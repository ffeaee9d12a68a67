"""What the figures mean: automatic checks, warnings and both gates."""
