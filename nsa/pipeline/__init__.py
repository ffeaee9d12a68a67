"""What each stage depends on, and the state of a results folder."""
