"""The records that stages hand to each other: files, their columns and what holds for a whole file."""
