"""One contract for every broker: the same checks, run against each adapter.

`benches.py` makes an adapter with an open session and moves the market behind it: the paper
broker's own, or an emulator that speaks the broker's wire on loopback. Nothing in the checks knows
a wire.
``make contract`` prints brokers × checks. A check that does not apply to a broker is skipped with
the reason that the broker's capabilities give.
"""
