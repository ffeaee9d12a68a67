"""The DRAM stage: bytes that the hardware counted."""
