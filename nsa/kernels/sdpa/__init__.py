"""Packed SDPA: pack the selected blocks, then PyTorch's fused attention. Runs on any device."""
