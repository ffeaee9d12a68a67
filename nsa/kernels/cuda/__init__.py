"""CUDA backend: one fused kernel over the selected blocks, in the extension that the build stage makes."""
