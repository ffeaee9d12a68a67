"""The decode stage: one cell, a backend at S tokens."""
