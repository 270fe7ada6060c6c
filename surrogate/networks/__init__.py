"""Neural surrogates: architecture, training, ensembles, posteriors and a second-order optimiser."""
