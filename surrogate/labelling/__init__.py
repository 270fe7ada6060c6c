"""Labelling runs: choosing which rows of a table to label, and a model of the rest."""
