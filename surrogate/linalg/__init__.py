"""Linear algebra of kernel matrices: torch alone."""
