"""Adapters: one file that does I/O and one pure wire file for each vendor."""
