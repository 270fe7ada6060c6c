"""GetDist files, tables, pictures and the report."""
