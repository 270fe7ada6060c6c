"""Gaussian processes: kernels, means, noise, solvers, evidence."""
