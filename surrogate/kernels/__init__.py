"""Covariance functions and trend bases, in torch."""
