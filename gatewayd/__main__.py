"""`python -m gatewayd`."""

from gatewayd.cli import main

if __name__ == "__main__":
    main()
