"""Samplers for a surrogate or any cheap density, evidence estimates and diagnostics."""
