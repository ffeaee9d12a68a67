"""The curve of decode cores: the core check's times over many S and B."""
