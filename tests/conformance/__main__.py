"""`python -m tests.conformance cache`."""

from __future__ import annotations

import sys

from tests.conformance import cache

SUITES = {"cache": cache.run}


def main() -> int:
    """Run the suite that the command line names."""
    words = [word for word in sys.argv[1:] if word != "-v"]
    if len(words) != 1 or words[0] not in SUITES:
        print(f"usage: scripts/conformance {'|'.join(SUITES)} [-v]", file=sys.stderr)
        return 2
    return SUITES[words[0]]("-v" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
