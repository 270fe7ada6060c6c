"""Solvers of the linear systems of a Gaussian process, exact and approximate."""
