"""Changes that last: each is looked at, repeated when somebody else's undid it, and looked at again a little later.

FreeIPA reads an entry, changes it, and writes it back, while others do the same: what it has acknowledged may be gone
when the other's call ends, and between two replicas when they meet.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Callable, Optional

from certhooks.errors import ActivationError, ConnectionLostError, Error
from certhooks_freeipa_dns.errors import PassingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certhooks.deadline import Deadline
    from certhooks_freeipa_dns.backend import Backend, Held, Record

_TRIES = 6  # two writers lose a value to each other in a third of all tries; six such losses in a row do not happen
_JITTER = 0.15  # seconds, doubled with each try
APART = 0.3  # seconds; one call took 0.3 s at most, and replicas had met after 0.05 s
_REPAIR = 3.0  # seconds between looks while the name servers lag


class Changes:
    """Changes on one server; they raise what the server raises, and DeadlineError.

    Args:
        tell: is told what is done again.
    """

    def __init__(self, backend: Backend, deadline: Deadline, tell: Callable[[str], None]) -> None:
        self._backend = backend
        self._deadline = deadline
        self._tell = tell

    def add(self, records: Sequence[Record], held: Mapping[str, Held], ttl: int) -> None:
        """Add what ``held`` lacks until the server shows it all; ``ttl`` is for entries that are not there yet.

        Raises:
            ActivationError: it never stays.
        """
        ttls = {record.target: ttl for record in records if not held[record.target].exists}
        self._repeat(
            "add",
            [record for record in records if record.value not in held[record.target].values],
            act=lambda some: self._backend.add(some, ttls),
            good=lambda record, there: record.value in there.values,
        )

    def remove(self, records: Sequence[Record]) -> None:
        """Remove values until the server shows none of them; what is absent is fine.

        Raises:
            ActivationError: one comes back each time.
        """
        self._repeat(
            "removal",
            records,
            act=self._backend.remove,
            good=lambda record, there: record.value not in there.values,
        )

    def _repeat(
        self,
        what: str,
        records: Sequence[Record],
        *,
        act: Callable[[Sequence[Record]], Mapping[str, Held]],
        good: Callable[[Record, Held], bool],
    ) -> None:
        """Change, and look; after a lost connection or a passing fault, change what is not good yet again."""
        failure: Optional[Error] = None
        for attempt in range(_TRIES):
            if not records:
                return
            if attempt:
                pause = _JITTER * 2**attempt * random.uniform(0.3, 1.0)  # noqa: S311  no secret
                self._deadline.pause(pause, f"the {what}")
            try:
                after = act(records)
                failure = None
            except (ConnectionLostError, PassingError) as e:
                self._tell(f"{e}; trying again")
                failure = e
                continue
            records = [record for record in records if not good(record, after[record.target])]
            if records:
                self._tell(f"the {what} at {records[0].target} did not last: somebody else writes there too")
        if failure:
            raise failure
        if records:
            raise ActivationError(
                f"{self._backend.server} accepts the {what} at {records[0].target} and undoes it again",
                hint="something else changes the same name all the time: look at /var/log/httpd/error_log there",
            )


class Watch:
    """Looks now and then whether values that were just added are still there.

    The first look that counts comes when every change that was under way at the time of ours has ended. It costs
    nothing where the name servers take as long.

    Args:
        repair: adds again what is missing; tells whether all was there.
    """

    def __init__(self, deadline: Deadline, repair: Callable[[], bool]) -> None:
        self._deadline = deadline
        self._repair = repair
        self._due = deadline.elapsed() + APART
        self.sure = False  # a look that counts found all
        self.repaired = False  # something was added again since this was last set

    def now_and_then(self) -> None:
        """Look where it is time to; returns at once elsewhere."""
        if self._deadline.elapsed() >= self._due:
            self.look()

    def look(self) -> None:
        """Look as soon as that counts."""
        self._deadline.pause(max(0.0, self._due - self._deadline.elapsed()), "the second look")
        self.sure = self._repair()
        self.repaired = self.repaired or not self.sure
        self._due = self._deadline.elapsed() + (_REPAIR if self.sure else APART)
