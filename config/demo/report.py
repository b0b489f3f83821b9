"""What the demo prints, and how a step says that something was not as promised."""

import time
from collections.abc import Callable
from typing import IO

TITLE_WIDTH = 36
NOTE_WIDTH = 76


class Failed(Exception):
    """A step did not get what the platform promises."""

    def __init__(self, expected: str, received: object) -> None:
        super().__init__(f"expected {expected}, received {received}")
        self.expected, self.received = expected, received


def expect(condition: bool, expected: str, received: object) -> None:
    """Go on only if ``condition`` holds.

    Raises:
        Failed: it does not; ``expected`` and ``received`` say what is wrong.
    """
    if not condition:
        raise Failed(expected, received)


def expect_equal(what: str, expected: object, received: object) -> None:
    """Go on only if both are the same; raises as ``expect``."""
    expect(expected == received, f"{what} {expected}", received)


class Report:
    """A numbered line for each step with its time, written as soon as the step is over."""

    def __init__(self, out: IO[str]) -> None:
        self.out, self.steps = out, 0

    def run(self, title: str, step: Callable[[], str]) -> None:
        """Run ``step``, whose answer becomes the line's note.

        Raises:
            Failed: the step failed; its line and what was expected are written first.
        """
        started = time.perf_counter()
        try:
            note = step()
        except BaseException as e:
            self._line(self.steps + 1, title, "FAILED", started)
            if isinstance(e, Failed):
                self.say(f"     expected: {e.expected}\n     received: {e.received}")
            raise
        self.steps += 1
        self._line(self.steps, title, note, started)

    def say(self, text: str = "") -> None:
        self.out.write(f"{text}\n")
        self.out.flush()

    def _line(self, number: int, title: str, note: str, started: float) -> None:
        milliseconds = (time.perf_counter() - started) * 1000
        self.say(
            f"{number:>3}  {title:<{TITLE_WIDTH}}  {note:<{NOTE_WIDTH}} {milliseconds:>7.0f} ms"
        )
