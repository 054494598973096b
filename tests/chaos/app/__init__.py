"""The app of the chaos runs. Imported by every process of theirs before it takes any work: so that is where a process
breaks the promise that it is told to. One of the previous version, beside which a run plays this, does not know how.
"""

import os

if "CHAOS_MUTATION" in os.environ and "CHAOS_MAIN" not in os.environ:
    from tests.chaos.mutations import apply

    apply(os.environ["CHAOS_MUTATION"])
