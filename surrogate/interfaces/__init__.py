"""One file per pipeline that surrogate plugs into."""
