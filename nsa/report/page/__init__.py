"""What people and machines read: tables, plots, pages, exports."""
