"""The parts of a decode step beside selection as Triton kernels: compressed attention and routing."""
