"""Native Sparse Attention for decoding: the float64 reference and the layer that is measured."""
