"""Files: run folders, journals, arrays, documents."""
