"""A decode step beside selection as Triton kernels."""
