"""Starts every role of RouteMQ: `python main.py` is the router, `python main.py --help` lists the rest."""

import sys

try:
    from core.cli.main import main
except ModuleNotFoundError as error:
    if (error.name or "core").partition(".")[0] == "core":
        raise
    sys.exit(f"Error: {sys.executable} lacks {error.name}. Run scripts/install, then: .venv/bin/python main.py")

if __name__ == "__main__":
    main()
