"""The words of verdicts and checks; who only reads gate.json needs nothing else of the report."""

from __future__ import annotations

GO, NO_GO, INCONCLUSIVE, NOT_MEASURED = "GO", "NO-GO", "INCONCLUSIVE", "NOT MEASURED"
ACCEPT, REJECT = "ACCEPT", "REJECT"
BLOCKING, WARNING = "blocking", "warning"  # how severe a check is that fires
