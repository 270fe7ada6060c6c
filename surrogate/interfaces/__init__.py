"""Interfaces to other programs: one module or package each."""
