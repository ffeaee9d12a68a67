"""The report as one HTML page that needs no network: cards, plots, tables; see page.py."""
