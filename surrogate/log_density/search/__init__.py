"""Search for structure: warps, couplings, kernels, trends and noise, chosen by evidence."""
