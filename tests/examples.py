"""How many inputs the property-based tests try.

By default few, and the same in every run, so that a failure is one of the change in hand. TEST_EXAMPLES=50 tries fifty
times as many, others in every run; a failure then prints how to repeat it (`@reproduce_failure`), and
`--hypothesis-seed=N` repeats a whole run. Such runs want `--timeout=0` as well.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("TEST_EXAMPLES", "1"))

_DEFAULT = 100


def load_profile() -> None:
    """For every test that has no settings of its own."""
    settings.register_profile(
        "ours",
        max_examples=_DEFAULT * TIMES,
        deadline=None,  # the machine may be busy with something else
        derandomize=TIMES == 1,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("ours")


def examples(count: int, **options: object) -> settings:
    """Settings of a test that tries `count` examples, or the same multiple of it."""
    return settings(max_examples=count * TIMES, **options)  # type: ignore[arg-type]
