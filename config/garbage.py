"""Python's garbage collector, told what never becomes garbage."""

import gc
from typing import Any

# How many new objects make it look, and how often that look goes deeper. Python's own 700 looks
# several times in a request.
THRESHOLDS = (10_000, 20, 50)


def settle(**_: Any) -> None:
    """Leave what the start has made out of all later collections. Call it once that is done.

    A look at everything takes a tenth of a second in which nothing is answered, and pushes what
    the requests need out of the processor's caches.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
