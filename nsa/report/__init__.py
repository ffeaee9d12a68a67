"""From the records to the two verdicts: statistics, automatic checks, gates, tables, figures and the gate report."""
