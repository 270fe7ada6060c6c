"""Anything with submit: serial, threads, processes."""
