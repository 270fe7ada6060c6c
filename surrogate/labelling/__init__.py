"""Runs in which somebody labels rows of a table: tables, journal, state, models and honest figures."""
