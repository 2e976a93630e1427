"""Finds machines, waits until they are ready, and deletes them.

A failed call says nothing about a machine, so it does not end a wait. When a machine counts as
gone, fleet.py says.
"""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pulumi_fal.api import retry
from pulumi_fal.api.models import Instance
from pulumi_fal.clock import time_of_day
from pulumi_fal.errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    StillThereError,
    UnreachableError,
    VanishedError,
)
from pulumi_fal.machines.fleet import Absence, Answer

if TYPE_CHECKING:
    from pulumi_fal.machines.account import Account

STOPPED_SECONDS = 60.0
"""Seconds for which a machine must stay stopped until a wait for it ends as failed."""
_ASK_SECONDS = 30.0
"""After this time, a machine that no list has shown yet is also asked for by its id."""
_LOOKS = 12
"""How often a machine that is missing is looked for, until it counts as gone."""
_LOOK_AGAIN_SECONDS = 2.0
"""The longest pause between the two looks of a call with a time limit."""
RESEND_SECONDS = 120.0
"""The time after which an accepted DELETE is sent again if the machine still exists."""
_AGAIN_SECONDS = 5.0
"""The time after which a DELETE is sent again that the API answered with 404, because the machine
may appear or come back."""
REFUSED_SECONDS = 60.0
"""How long the API may refuse the key before a wait ends. A 403 of a gateway lasts less long."""

SSH_ADDRESS_VARIABLE = "FAL_COMPUTE_SSH_ADDRESS"
"""The variable with the IP:PORT to connect to instead, for machines of the emulator."""
SSH_PORT = 22
_GREETING_SECONDS = 2.0
"""How long to wait for a connection, and then for the greeting. An interrupt waits as long."""
_LONGEST_GREETING = 255
"""The most bytes that are read: the longest greeting of an SSH server (RFC 4253, section 4.2)."""

Greeting = Callable[[str], str | None]
"""Returns why no SSH server greets at an ip, or None if one does."""


def chosen_greeting(environ: Mapping[str, str]) -> Greeting:
    """Return `ssh_problem`, with the address that the environment sets."""
    return partial(ssh_problem, instead=environ.get(SSH_ADDRESS_VARIABLE, ""))


def ssh_problem(ip: str, instead: str = "") -> str | None:
    """Return None if an SSH server greets on port 22 of the ip, or the reason why none does.

    With `instead`, an IP:PORT, this connects there, and the reason says so: the variable may have
    been forgotten in a terminal. The reason never contains the ip, because a program may treat it
    as a secret.
    """
    where = f" at the address in {SSH_ADDRESS_VARIABLE}" if instead else ""
    try:
        address = ssh_address(ip, instead)
        with socket.create_connection(address, timeout=_GREETING_SECONDS) as connection:
            greets = connection.recv(_LONGEST_GREETING).startswith(b"SSH-")
            return None if greets else f"what answers{where} is no SSH server"
    except (ValueError, socket.gaierror):
        return (
            f"{SSH_ADDRESS_VARIABLE} is not IP:PORT" if instead else "its ip is not an IP address"
        )
    except TimeoutError:
        return f"no answer{where} within {_GREETING_SECONDS:.0f} s"
    except OSError as error:
        why = error.strerror or "the connection failed"
        return why + where


def ssh_address(ip: str, instead: str = "") -> tuple[str, int]:
    """Return where to connect to. Raises ValueError if `instead` is not IP:PORT."""
    host, _, port = instead.rpartition(":") if instead else (ip, "", str(SSH_PORT))
    return host.strip("[]"), int(port)


class Lifecycle:
    """Finds, awaits and deletes the machines of an account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = account.client
        self._fleet = account.fleet
        self._clock = account.clock
        self._api_is_silent = False
        """Whether the API gave no answer to the last look."""
        self.deleted: set[str] = set()
        """The machines whose DELETE the API has accepted."""

    def confirm_gone(self, instance_id: str) -> Instance | None:
        """Wait until the machine is shown again, and return it, or None once it is gone.

        Call it after a look that missed a machine which was shown before. Raises APIError if the
        API can't be asked.
        """
        found: Instance | None = None
        with Absence(self._fleet, instance_id) as absence:
            while found is None:
                absence.missed()
                if absence.is_over:
                    return self._client.find_instance(instance_id)
                self._clock.sleep(max(self._fleet.interval, self._fleet.least_absence / _LOOKS))
                # Lists are shared by all that are missing, so only the last look needs a GET.
                found = self._fleet.recent(self._fleet.interval / 4).get(instance_id)
        return found

    def look(self, instance_id: str, seconds: float = math.inf) -> Instance | None:
        """Return the machine if a list or a GET shows it now, at the second look at the latest.

        None proves nothing. With `seconds`, raises TimeoutError if that takes longer, and retries
        no call. A preview asks for one machine after another, so once the API has given no answer,
        looks with a time limit don't ask it until it has answered another call.
        """
        has_limit = seconds != math.inf
        if has_limit and self._api_is_silent:
            raise TimeoutError
        until = self._clock.now() + seconds
        pause = min(self._fleet.interval, _LOOK_AGAIN_SECONDS if has_limit else math.inf)
        try:
            # A refresh reads hundreds of machines within a second, so they share a list.
            listed = self._fleet.recent(self._fleet.interval / 4, until, share_errors=False)
            found = listed.get(instance_id) or self.find(instance_id, until)
            if found is None:
                self._clock.sleep(min(pause, until - self._clock.now()))
                listed = self._fleet.fresh(until)
                found = listed.get(instance_id) or self.find(instance_id, until)
        except (TimeoutError, UnreachableError):
            self._api_is_silent = True
            raise
        self._api_is_silent = False
        return found

    def find(self, instance_id: str, until: float = math.inf) -> Instance | None:
        """Return the machine if a GET shows it; with a time `until`, it is not retried.

        Raises TimeoutError if it is that late already.
        """
        if until == math.inf:
            return self._client.find_instance(instance_id)
        left = until - self._clock.now()
        if left <= 0:
            raise TimeoutError
        return self._client.within(0, left).find_instance(instance_id)

    def wait_until_ready(
        self,
        instance: Instance,
        seconds: float,
        observe: Callable[[Instance], None] = lambda instance: None,
        on_no_ssh: Callable[[str], None] | None = None,
        *,
        seen: bool = False,
    ) -> Instance:
        """Wait until the machine is ready and has an ip, and return it.

        `seen` says whether the API has ever shown the machine, which otherwise can't be gone.
        `observe` is called when the API first shows the machine, and then with every change. With
        `on_no_ssh`, an SSH server must also greet at the ip; it is called with the reason whenever
        none does. Raises NotReadyError after `seconds` or if the machine stays stopped for
        STOPPED_SECONDS, VanishedError if the machine is gone, and AuthenticationError if the API
        has refused the key for a minute.
        """
        started = self._clock.now()
        ready = self._wait(instance, started, seconds, observe, _lacks, seen)
        if on_no_ssh is None:
            return ready

        def lacking(shown: Instance) -> str | None:
            lacks = _lacks(shown)
            if lacks is None and (reason := self._account.greeting(shown.ip or "")):
                on_no_ssh(reason)
                lacks = f"its status is ready, but no SSH server greets on port 22 ({reason})"
            return lacks

        # A second wait polls often again, because SSH answers soon after the machine is ready.
        return self._wait(ready, started, seconds, observe, lacking, True)

    def _wait(
        self,
        instance: Instance,
        started: float,
        seconds: float,
        observe: Callable[[Instance], None],
        lacking: Callable[[Instance], str | None],
        seen: bool,
    ) -> Instance:
        """Wait until `lacking` no longer returns what the machine lacks, and return the machine.

        The `seconds` count from `started`, and the exceptions are those of wait_until_ready.
        """
        lacks = lacking(instance)
        if lacks is None:
            return instance
        stopped_since = math.inf
        outage = Outage(self._account, started + seconds)
        answers = self._fleet.watch(started + seconds - self._clock.now())

        def is_due() -> bool:
            return seen or self._clock.now() - started >= _ASK_SECONDS

        with Absence(self._fleet, instance.id) as absence:
            for found in self._found(instance.id, answers, outage, is_due):
                if found is None:
                    if seen:
                        absence.missed()
                    if absence.is_over:
                        raise VanishedError(instance.id, _gone(instance, absence))
                    continue
                absence.end()
                if found != instance or not seen:
                    observe(found)
                instance, seen = found, True
                now = self._clock.now()
                stopped_since = min(stopped_since, now) if found.is_stopped else math.inf
                if now - stopped_since >= STOPPED_SECONDS:
                    raise NotReadyError(instance.id, _stopped(instance))
                lacks = lacking(instance)
                if lacks is None:
                    return instance
            if absence.seconds:
                lacks = f"the API has not shown it for {absence.seconds:.0f} s"
            elif not (seen or f"{outage}"):
                lacks = "the API has not shown it yet"
        raise NotReadyError(
            instance.id,
            f"Machine {instance.id} ({instance.instance_type}) is billed, but was not ready after "
            f"{seconds:.0f} s: {lacks}.{outage}\n"
            "Run `pulumi up` again to go on waiting for the same machine.",
        )

    def delete(self, instance_id: str, seconds: float) -> bool:
        """Delete the machine, and return when it is gone: whether the API accepted the DELETE.

        It is no error if the machine is already gone. Raises StillThereError after `seconds`, or
        later if the machine is missing then, and not for long enough; InvalidRequestError if the
        API rejects the request; and AuthenticationError if it has refused the key for a minute.
        """
        until, misses = self._clock.now() + seconds, 0
        request, outage = Deletion(self._account, instance_id, until), Outage(self._account, until)

        def is_due() -> bool:
            return not request.accepted or misses > 0

        with Absence(self._fleet, instance_id) as absence, ExitStack() as at_end:
            at_end.callback(self._fleet.ending.discard, instance_id)
            request.send()
            answers = self._answers(seconds, absence, for_end=request.accepted)
            for found in self._found(instance_id, answers, outage, is_due):
                if found is not None or not request.accepted:
                    request.send()
                if found is not None or request.has_conflict:
                    misses = 0
                    absence.end()
                    continue
                misses += 1
                if not request.accepted:
                    absence.missed()
                if misses >= 2 if request.accepted else absence.is_over:
                    return request.accepted
        raise StillThereError(
            instance_id,
            f"Machine {instance_id} may still exist {seconds:.0f} s after its delete began "
            f"({request.said}).{outage}",
        )

    def _answers(self, seconds: float, absence: Absence, *, for_end: bool) -> Iterator[Answer]:
        """Yield answers for so many seconds, and then for as long as the machine is missing."""
        yield from self._fleet.watch(seconds, for_end=for_end)
        if absence.is_missing():
            for answer in self._fleet.watch(self._fleet.longest_absence):
                yield answer
                if not absence.is_missing():
                    return

    def _found(
        self,
        instance_id: str,
        answers: Iterable[Answer],
        outage: Outage,
        is_due: Callable[[], bool],
    ) -> Iterator[Instance | None]:
        """Yield the machine as each answer shows it, or a GET if it is due; None if neither does.

        Failures are recorded, and yield nothing.
        """
        for answer in answers:
            try:
                found = answer.usable().get(instance_id)
                self._api_is_silent = False
                if found is None and is_due():
                    found = self._client.within(0).find_instance(instance_id)
            except APIError as error:
                outage.record_failure(error)
            else:
                outage.record_success()
                yield found


def _lacks(instance: Instance) -> str | None:
    """Return what a machine lacks to be ready, or None if it is ready."""
    if instance.is_ready:
        return None
    has_ip = "an ip" if instance.ip else "no ip yet"
    return f"its status is {instance.status}, and it has {has_ip}"


def _gone(instance: Instance, absence: Absence) -> str:
    return (
        f"Machine {instance.id} ({instance.instance_type}) is gone: it was {instance.status} when "
        f"last seen, and the API has not shown it for {absence.seconds:.0f} s."
    )


def _stopped(instance: Instance) -> str:
    return (
        f"Machine {instance.id} ({instance.instance_type}) has been stopped for "
        f"{STOPPED_SECONDS:.0f} s, so it does not become ready. It may still be billed.\n"
        "Start it on the fal dashboard, then run `pulumi up` again."
    )


class Deletion:
    """The DELETE of one machine. It is retried, with the delays of retry.py, until it is accepted.

    After that it is sent again every RESEND_SECONDS, because the 200 may have come from a gateway.
    """

    def __init__(self, account: Account, instance_id: str, until: float) -> None:
        self.accepted = instance_id in account.lifecycle.deleted
        self.has_conflict = False
        """Whether the last answer was a 409, which shows that the machine exists."""
        self.said = ""
        """The last answer of the API, in words."""
        self._account = account
        self._client = account.client.within(0)
        self._id = instance_id
        self._outage = Outage(account, until)
        self._tries = 0
        self._due = 0.0

    def send(self) -> None:
        """Send the DELETE if it is due. After 404 or 409 the list decides."""
        if self._account.clock.now() < self._due:
            return
        self._tries += 1
        self.has_conflict = False
        try:
            self._client.delete_instance(self._id)
        except (ConflictError, NotFoundError) as error:
            self.has_conflict = isinstance(error, ConflictError) and not self.accepted
            self.said = f"the API answered {error.status}: {error.detail}"
            if not self.has_conflict:
                self._due = self._account.clock.now() + _AGAIN_SECONDS
            return
        except APIError as error:
            if retry.rule(error) is retry.REFUSED and not isinstance(error, AuthenticationError):
                raise
            self.said = f"{error}".rstrip(".")
            self._outage.record_failure(error)
            self._due = self._account.clock.now() + retry.delay(error, self._tries, random.uniform)
            return
        self.accepted, self.said = True, "the API had accepted it"
        self._account.lifecycle.deleted.add(self._id)
        self._account.fleet.ending.add(self._id)
        self._due = self._account.clock.now() + RESEND_SECONDS


class Outage:
    """The failures in a row of one kind of call during one wait.

    They say nothing about a machine, so the wait continues, unless the API refuses the key for
    REFUSED_SECONDS.
    """

    def __init__(self, account: Account, until: float) -> None:
        """`until` is when the wait ends, on the clock. People are told of each new failure."""
        self._clock = account.clock
        self._notify = account.notify
        self._until = until
        self._last: APIError | None = None
        self._notified = ""
        self._since = 0.0
        self._refused_since: float | None = None

    def record_failure(self, error: APIError) -> None:
        """Record a failed call. Raises an AuthenticationError that lasted for REFUSED_SECONDS."""
        now = self._clock.now()
        if not isinstance(error, AuthenticationError):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= REFUSED_SECONDS:
            raise error
        if self._last is None:
            self._since = now
        self._last = error
        if str(error) != self._notified:
            self._notified = str(error)
            end = self._until
            if self._refused_since is not None:
                end = min(end, self._refused_since + REFUSED_SECONDS)
            wall = self._clock.wall()
            until = time_of_day(wall + end - now, wall)
            self._notify(
                f"{error} The wait goes on until {until}. Ctrl-C is safe: the next run continues."
            )

    def record_success(self) -> None:
        """Record that a call worked, which ends the outage."""
        if self._last is not None:
            self._notify("The API answers again.")
        self._last, self._notified, self._refused_since = None, "", None

    def __str__(self) -> str:
        """A sentence for the error of a wait that timed out, or "" if the last call worked."""
        if self._last is None:
            return ""
        seconds = self._clock.now() - self._since
        return f" For the last {seconds:.0f} s the API gave no usable answer: {self._last}"
