# SPDX-License-Identifier: Apache-2.0
"""The one rule for the stamps of messages, for images, joint states, poses and commands alike.

- A stamp of zero is none: such a message counts from its arrival.
- Every other stamp is believed, and no offset is guessed. One ahead of the clock is as wrong as one behind it, so whatever
  refuses old messages refuses both, and with them the stamps of another clock (since boot, simulated).
- Where a message has a stamp and an arrival, the one farther from now counts: a silent driver and a late one are both stale.
"""

from typing import Any

ANOTHER_CLOCK = 3600.0  # s: no message is so late, so a stamp that is farther from now is of another clock


def seconds(stamp: Any, arrival: float) -> float:
    """A builtin_interfaces/Time in seconds; `arrival` [s], on the node's clock, where it is zero."""
    return stamp.sec + 1e-9 * stamp.nanosec or arrival


def age(stamp: float, clock: float, waited: float = 0.0) -> float:
    """Age [s] of what is stamped `stamp` and came `waited` seconds ago; negative where the stamp is ahead of `clock` [s].

    Its size is what limits are for.
    """
    return max(clock - stamp, waited, key=abs)


def told(age: float) -> str:
    """An age as the end of a sentence: "is 1.2 s old"."""
    if abs(age) > ANOTHER_CLOCK:
        return (
            f"has a stamp {abs(age):.0f} s {'before' if age > 0.0 else 'after'} this node's time, so of another clock (that of "
            "the boot, or simulated time)"
        )
    return f"is {age:.1f} s old" if age >= 0.0 else f"is stamped {-age:.1f} s in the future"
