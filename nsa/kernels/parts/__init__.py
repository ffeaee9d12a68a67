"""Compressed attention and routing as Triton kernels."""
