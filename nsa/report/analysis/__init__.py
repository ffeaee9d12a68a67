"""What records say: reading them, statistics, figures; nothing is decided here."""
