"""Surrogate models of an expensive function and the classifier that gates them."""
