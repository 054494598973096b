"""Starts every role of RouteMQ: `python main.py` is the router, `python main.py --help` lists the rest."""

from core.cli.main import main

if __name__ == "__main__":
    main()
