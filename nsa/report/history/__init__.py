"""What one GPU model measured over time: a file that grows by a row for every record (docs/report.md#history)."""
