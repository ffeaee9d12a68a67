"""Two processes: the candidate's, which loads what is tried, and its judge's (docs/method.md#judge-and-candidate)."""
