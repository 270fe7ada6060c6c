"""Interfaces to other programs, with a module or package for each."""
