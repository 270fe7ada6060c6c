"""``python -m surrogate``: the command line."""

import sys

from surrogate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
