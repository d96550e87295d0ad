"""``python -m featuremill.jobs``: the command line, where the `featuremill` script is not on the path."""

import sys

from featuremill.jobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
