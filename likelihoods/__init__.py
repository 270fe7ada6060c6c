"""Ready targets: analytic ones with exact answers, and real-data ones."""
