"""How the pages write numbers, times and words: Indian grouping, IST, signs beside colours."""

from __future__ import annotations

from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from brokerages.registry import UnknownBroker, adapter_class

register = template.Library()

IST = ZoneInfo("Asia/Kolkata")
NOTHING = "–"
MINUS = "\u2212"

STATUS_WORDS = {
    "PENDING": ("Queued", "busy"),
    "SUBMITTED": ("Sent", "busy"),
    "OPEN": ("Open", "live"),
    "TRIGGER_PENDING": ("Trigger pending", "live"),
    "PARTIALLY_FILLED": ("Partly filled", "live"),
    "PENDING_CANCEL": ("Cancelling", "busy"),
    "FILLED": ("Filled", "good"),
    "CANCELLED": ("Cancelled", "idle"),
    "REJECTED": ("Rejected", "bad"),
    "DENIED": ("Not accepted", "bad"),
    "EXPIRED": ("Expired", "idle"),
    "NOT_PLACED": ("Not placed", "bad"),
}


OFFERS = ("after_market_orders", "iceberg_orders", "market_protection")


@register.filter
def offers(broker: str) -> str:
    """Return what a broker takes beyond the plain order, by the names of its capabilities."""
    try:
        able = adapter_class(broker).capabilities
    except UnknownBroker:  # of an earlier version
        return ""
    return " ".join(name for name in OFFERS if getattr(able, name))


def decimal_of(value: Any) -> Decimal | None:
    """Return the number that ``value`` is or spells, or None."""
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def group(digits: str) -> str:
    """Return whole digits in Indian grouping: 12,34,567."""
    head, tail = digits[:-3], digits[-3:]
    parts = [tail]
    while head:
        parts.insert(0, head[-2:])
        head = head[:-2]
    return ",".join(parts)


def plain(number: Decimal, places: int = 2) -> str:
    """Return the size of ``number`` in Indian grouping, rounded half away from zero, unsigned."""
    text = f"{abs(number).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP):f}"
    whole, _, rest = text.partition(".")
    return group(whole) + (f".{rest}" if rest else "")


def _sign(number: Decimal, places: int) -> int:
    rounded = number.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    return (rounded > 0) - (rounded < 0)


@register.filter
def inr(value: Any, places: int = 2) -> str:
    """1,23,456.78; negative numbers with a minus sign."""
    number = decimal_of(value)
    if number is None:
        return NOTHING
    return (MINUS if _sign(number, places) < 0 else "") + plain(number, places)


@register.filter
def money(value: Any, places: int = 2) -> str:
    """₹1,23,456.78"""
    number = decimal_of(value)
    if number is None:
        return NOTHING
    return (MINUS if _sign(number, places) < 0 else "") + "₹" + plain(number, places)


@register.filter
def signed(value: Any, places: int = 2) -> str:
    """+1,234.50 or −1,234.50: gain and loss are told apart without their colour."""
    number = decimal_of(value)
    if number is None:
        return NOTHING
    return {1: "+", -1: MINUS, 0: ""}[_sign(number, places)] + plain(number, places)


@register.filter
def signed_money(value: Any, places: int = 2) -> str:
    """+₹1,234.50 or −₹1,234.50"""
    number = decimal_of(value)
    if number is None:
        return NOTHING
    return {1: "+", -1: MINUS, 0: ""}[_sign(number, places)] + "₹" + plain(number, places)


@register.filter
def percent(value: Any, places: int = 2) -> str:
    number = decimal_of(value)
    return NOTHING if number is None else f"{signed(number, places)}%"


@register.filter
def compact(value: Any) -> str:
    """₹2.35 Cr, ₹1.20 L, ₹45,000: for cards where the last rupee does not matter."""
    number = decimal_of(value)
    if number is None:
        return NOTHING
    for size, unit in ((Decimal(10_000_000), " Cr"), (Decimal(100_000), " L")):
        if abs(number) >= size:
            return money(number / size) + unit
    return money(number, 0)


@register.filter
def qty(value: Any) -> str:
    """Units in Indian grouping, signed only when negative."""
    return inr(value, 0)


@register.filter
def tone(value: Any) -> str:
    """The class of a gain or a loss, by what is shown: 0.00 is neither."""
    number = decimal_of(value)
    return "flat" if number is None else {1: "up", -1: "down", 0: "flat"}[_sign(number, 2)]


@register.filter
def arrow(value: Any) -> str:
    return {"up": "▲", "down": "▼"}.get(tone(value), "")


@register.filter
def share(part: Any, whole: Any) -> Decimal | None:
    """Percent of ``whole``, for the change beside a P&L."""
    a, b = decimal_of(part), decimal_of(whole)
    return None if a is None or not b else a / abs(b) * 100


@register.filter
def ticker(key: Any) -> str:
    """RELIANCE of NSE:RELIANCE."""
    return str(key).partition(":")[2] or str(key)


@register.filter
def exchange(key: Any) -> str:
    head, colon, _ = str(key).partition(":")
    return head if colon else ""


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) else None


@register.filter
def ist(value: Any, style: str = "") -> SafeString | str:
    """A <time> in IST: the clock for today, else the day too. ``full`` always gives both."""
    moment = _moment(value)
    if moment is None:
        return NOTHING
    local = moment.astimezone(IST)
    clock = local.strftime("%H:%M:%S")
    day = f"{local.day} {local.strftime('%b')}"
    today = local.date() == timezone.now().astimezone(IST).date()
    if style == "day":
        words = f"{day} {local.year}"
    elif style == "full":
        words = f"{day} {local.year}, {clock} IST"
    else:
        words = clock if today else f"{day}, {clock[:5]}"
    title = f"{day} {local.year}, {clock} IST"
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), title, words)


@register.filter
def day(value: Any) -> str:
    """5 Nov 2026"""
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value[:10])
        except ValueError:
            return NOTHING
    return f"{value.day} {value.strftime('%b %Y')}" if isinstance(value, date) else NOTHING


@register.filter
def status_label(status: str) -> str:
    return STATUS_WORDS.get(status, (status.replace("_", " ").capitalize(), "idle"))[0]


@register.filter
def status_tone(status: str) -> str:
    return STATUS_WORDS.get(status, ("", "idle"))[1]


@register.filter
def words(code: Any) -> str:
    """Readable words of a code: order_filled -> Order filled."""
    return str(code).replace("_", " ").replace(".", " ").strip().capitalize()


@register.filter
def initials(user: Any) -> str:
    """Two letters for the avatar."""
    name = (user.name or user.email.partition("@")[0]).replace(".", " ").split()
    return "".join(word[0] for word in name[:2]).upper()


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """One drawing of the sprite in base.html; the words beside it carry the meaning."""
    return format_html(
        '<svg class="icon {}" viewBox="0 0 20 20" aria-hidden="true" focusable="false">'
        '<use href="#i-{}"></use></svg>',
        css,
        name,
    )
