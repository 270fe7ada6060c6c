"""Solvers of the linear systems of a Gaussian process."""
