"""The tuning stage of the Triton backend."""
