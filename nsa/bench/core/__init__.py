"""The core check: decode cores beside a float64 oracle, the composed core and dense attention."""
