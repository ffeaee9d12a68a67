"""A backend in plain PyTorch, in a package of its own."""
