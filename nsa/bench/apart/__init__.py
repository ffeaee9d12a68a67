"""Two processes: the candidate's, which loads what is tried, and its judge's (docs/kernel_check.md)."""
