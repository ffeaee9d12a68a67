"""Corner cases of the kernel check: untimed inputs that the acceptance grid does not reach, drawn anew in each run."""
