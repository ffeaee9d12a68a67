"""The kernel check: a backend's kernel against packed SDPA on the acceptance grid."""
