"""The roofline stage: every kernel beside the memory floor."""
