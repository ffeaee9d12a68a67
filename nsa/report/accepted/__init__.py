"""The accepted run of each GPU model, and what changed since."""
