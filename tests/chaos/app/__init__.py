"""The app of the chaos runs. Imported by every process of theirs before it takes any work: so that is where a process
breaks the promise that it is told to.
"""

import os

if "CHAOS_MUTATION" in os.environ:
    from tests.chaos.mutations import apply

    apply(os.environ["CHAOS_MUTATION"])
