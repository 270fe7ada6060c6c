"""Files of runs: folders, journals, arrays, documents."""
