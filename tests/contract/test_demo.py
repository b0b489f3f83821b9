"""The demo's own sums and manners. That it runs to its end, `make demo` shows."""

import io
from fractions import Fraction

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from config.demo.arithmetic import expect_rupees, holdings, shown, signed
from config.demo.replay import _minutes_played, _tracks
from config.demo.report import Failed, Report, expect_equal


def fill(side, quantity, price, symbol="NSE:INFY", product="CNC"):
    return {
        "side": side, "quantity": quantity, "price": price, "symbol": symbol, "product": product,
    }  # fmt: skip


def test_average_cost_of_a_long_and_a_short():
    own = holdings(
        [
            fill("BUY", 10, "100.00"),
            fill("BUY", 20, "103.00"),
            fill("SELL", 12, "105.00"),
            fill("SELL", 5, "50.00", product="MIS"),
            fill("BUY", 8, "49.00", product="MIS"),
        ]
    )

    long, short = own["NSE:INFY", "CNC"], own["NSE:INFY", "MIS"]
    assert (long.quantity, long.cost, long.realised) == (18, 1836, 36)
    assert long.worth("101.50") == Fraction("-9")
    # five bought back at a rupee less, three more opened
    assert (short.quantity, short.cost, short.realised) == (3, 147, 5)


def test_amounts_must_agree_to_the_paisa():
    expect_rupees("a third", Fraction(100, 3), "33.3333")
    with pytest.raises(Failed, match="₹33"):
        expect_rupees("a third", Fraction(100, 3), "33.34")
    with pytest.raises(Failed):
        expect_rupees("something", Fraction(1), None)
    assert (shown(Fraction("1234.5")), signed(Fraction(-2))) == ("₹1,234.50", "- ₹2.00")


def test_a_failed_step_says_what_was_expected():
    out = io.StringIO()
    report = Report(out)
    report.run("First", lambda: "fine")

    with pytest.raises(Failed):
        report.run("Second", lambda: str(expect_equal("units", 3, 4)))

    first, second, expected, received = out.getvalue().splitlines()
    assert first.split()[:3] == ["1", "First", "fine"]
    assert second.split()[:3] == ["2", "Second", "FAILED"]
    assert (expected.strip(), received.strip()) == ("expected: units 3", "received: 4")


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "ftp://localhost"],
        ["--mail-folder", "/tmp"],
        ["--replay", "no-such-file.csv"],
        ["--replay", __file__, "--speed", "59"],
    ],
)
def test_impossible_options_are_refused_before_anything_starts(options):
    with pytest.raises(CommandError):
        call_command("demo", *options)


def test_a_recording_is_compared_in_its_order(tmp_path):
    path = tmp_path / "day.csv"
    path.write_text(
        "datetime,a_open,a_high,a_low,a_close,b_open,b_high,b_low,b_close\n"
        "2025-10-03 09:15,10,12,9,11,1,1,1,1\n"
        "2025-10-03 09:16,11,15,11,14,2,2,2,2\n"
    )
    tracks = _tracks(path)
    bars = tracks["a"]

    assert list(tracks) == ["a", "b"]
    assert _minutes_played("A", bars, [bars[0][2], bars[1][1]]) == 1
    with pytest.raises(Failed, match="order of the recording"):
        _minutes_played("A", bars, [bars[1][1], bars[0][2]])
