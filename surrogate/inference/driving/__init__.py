"""Driving a run: scheduling of evaluations, budget, journal."""
