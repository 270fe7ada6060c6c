"""Least-squares support vector machines and the file formats of LIBSVM."""
