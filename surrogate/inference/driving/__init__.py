"""Driving of a run: scheduling of evaluations, budget, journal."""
