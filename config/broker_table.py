"""What each broker can do, as docs/brokers/README.md: ``python -m config.broker_table`` writes it.

It is made from the capabilities that the code itself goes by, and a test compares the two.
"""

import sys
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path

from brokerages.base import BrokerAdapter, Capabilities, Pace, SessionRenewal
from brokerages.registry import BROKER_NAMES, adapter_class

PAGE = Path(__file__).resolve().parent.parent / "docs" / "brokers" / "README.md"

HEAD = """# Brokers

Made from the adapters' capabilities by `python -m config.broker_table`; edit those, not this page.
How to connect each is told on a page of its own: {pages}.

"""

SESSIONS = {
    SessionRenewal.NONE: "never ends",
    SessionRenewal.UNATTENDED: "renewed each morning by itself",
    SessionRenewal.INTERACTIVE: "the user logs in each day",
}

Row = tuple[str, Callable[[Capabilities], str]]


def _words(members: Iterable[Enum]) -> str:
    """Return members in the order in which their enum names them: sets have none."""
    found = set(members)
    if not found:
        return "–"
    order = list(type(next(iter(found))))
    return ", ".join(str(member.value) for member in order if member in found)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _pace(able: Capabilities) -> str:
    rules = [rule for rule in able.pace if Pace.ORDER in rule.kinds]
    shown = sorted({(rule.seconds, rule.limit) for rule in rules})
    return "; ".join(f"{limit:,} in {_span(seconds)}" for seconds, limit in shown) or "no limit"


def _span(seconds: int) -> str:
    for unit, name in ((86_400, "day"), (60, "min")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def _ticks(able: Capabilities) -> str:
    if not able.streams_ticks:
        return "no"
    return f"{able.max_stream_instruments:,} instruments × {able.max_streams}"


def _postbacks(able: Capabilities) -> str:
    if not able.sends_postbacks:
        return "no"
    return "signed" if able.signs_postbacks else "unsigned: a hint to look"


ROWS: tuple[Row, ...] = (
    ("session", lambda able: SESSIONS[able.session_renewal]),
    ("approval from the phone", lambda able: _yes(able.opens_by_approval)),
    ("exchanges", lambda able: _words(able.exchanges)),
    ("order types", lambda able: _words(able.order_types)),
    ("products", lambda able: _words(able.products)),
    ("validities", lambda able: _words(able.validities)),
    ("after-market orders", lambda able: _yes(able.after_market_orders)),
    ("iceberg orders", lambda able: _yes(able.iceberg_orders)),
    ("market protection", lambda able: _yes(able.market_protection)),
    ("modify", lambda able: _yes(able.can_modify)),
    ("look-up by our tag", lambda able: _yes(able.find_by_client_order_id)),
    ("order pace", _pace),
    ("order updates pushed", lambda able: _yes(able.pushes_order_updates)),
    ("ticks", _ticks),
    ("postbacks", _postbacks),
    ("quotes", lambda able: _words(able.quotes)),
    ("candles", lambda able: _words(able.candle_intervals)),
    ("instrument list", lambda able: _yes(able.lists_instruments)),
    ("margin estimate", lambda able: _yes(able.estimates_margin)),
    ("convert a position", lambda able: _yes(able.can_convert_position)),
)


def page() -> str:
    """Return the page as Markdown."""
    brokers = [adapter_class(name) for name in BROKER_NAMES]
    links = [f"[{each.label}]({each.name}.md)" for each in brokers if _has_page(each)]
    lines = [
        "| | " + " | ".join(each.label for each in brokers) + " |",
        "|---" * (len(brokers) + 1) + "|",
    ]
    for title, cell in ROWS:
        lines.append(f"| {title} | " + " | ".join(cell(b.capabilities) for b in brokers) + " |")
    fields = [
        f"- **{each.label}**: " + ", ".join(f"`{field.name}`" for field in each.credential_fields)
        for each in brokers
        if each.credential_fields
    ]
    asked = "\n".join(["", "What a connection asks for:", "", *fields, ""]) if fields else ""
    return HEAD.format(pages=", ".join(links) or "none yet") + "\n".join(lines) + "\n" + asked


def _has_page(adapter: type[BrokerAdapter]) -> bool:
    return PAGE.with_name(f"{adapter.name}.md").exists()


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}\n")
