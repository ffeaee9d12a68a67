"""The decode core in Triton: five launches, for whoever has no compiler of CUDA."""
