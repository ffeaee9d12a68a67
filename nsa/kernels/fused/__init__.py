"""Fused decode core: compressed, selected and window attention, routing and the gated sum, in one extension."""
