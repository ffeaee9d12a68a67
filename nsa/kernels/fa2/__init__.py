"""FlashAttention-2 backend: the selected blocks packed, then FlashAttention over sequences of unequal length."""
