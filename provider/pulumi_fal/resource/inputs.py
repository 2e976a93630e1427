"""The table of a resource's inputs and outputs, what is wrong with inputs, and outputs in state.

All is found offline. Messages never repeat a value that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pulumi_fal.api import models
from pulumi_fal.api.models import Instance, InstanceType, Sector
from pulumi_fal.resource.call import UNKNOWN

if TYPE_CHECKING:
    # A program that declares machines imports this module, and has no account.
    from pulumi_fal.api.settings import AccountId


@dataclass(frozen=True)
class Field:
    """One property of a machine."""

    name: str
    """The name in Python and in the state that the dynamic provider writes."""
    is_input: bool = False
    """Whether a program can set it."""
    replaces: bool = False
    """Whether a change of this input replaces the machine."""
    is_output: bool = False
    """Whether a program can read it. State has the other inputs among its outputs as well."""
    is_late: bool = False
    """Whether its value in state is that of the machine, which is known only after the wait. A
    preview shows it as unknown, unless the program requests a value."""

    @property
    def camel(self) -> str:
        """The name in the schema, and in the state that the native plugin writes."""
        first, *others = self.name.split("_")
        return "".join([first, *(word.capitalize() for word in others)])


FIELDS = (
    Field("instance_type", is_input=True, replaces=True, is_output=True),
    Field("ssh_key", is_input=True, replaces=True, is_output=True),
    Field("sector", is_input=True, replaces=True, is_output=True, is_late=True),
    Field("wait", is_input=True),
    Field("wait_for_capacity", is_input=True),
    Field("wait_for_ssh", is_input=True),
    Field("max_age", is_input=True),
    Field("ip", is_output=True, is_late=True),
    Field("status", is_output=True, is_late=True),
    Field("region", is_output=True),
    Field("creator_user_nickname", is_output=True),
)

CLUSTER_FIELDS = (
    Field("size", is_input=True),
    Field("ips", is_output=True),
    Field("main_ip", is_output=True),
    Field("sector", is_output=True),
    Field("hostfile", is_output=True),
    Field("torchrun", is_output=True),
    Field("ssh_config", is_output=True),
    Field("inventory", is_output=True),
    Field("skypilot", is_output=True),
    Field("dstack", is_output=True),
    Field("machines", is_output=True),
)
"""What a ComputeCluster has besides the inputs of its machines."""


def names(wanted: Callable[[Field], bool]) -> tuple[str, ...]:
    """Return the names of the wanted fields, in the order of the table."""
    return tuple(field.name for field in FIELDS if wanted(field))


NAMES = names(lambda field: field.is_input)
ONLY = names(lambda field: field.is_input and not field.is_output)
"""The inputs that programs can't read, although state has them among the outputs."""
REPLACING = names(lambda field: field.replaces)
_OUTPUTS = names(lambda field: field.is_output)
_LATE = names(lambda field: field.is_late)
IMPORTED = "imported"
"""Set while the SSH key in state is the one that an import was given. The API does not return keys,
so it may not be the machine's."""
UNFINISHED = "unfinished"
"""Set only while a machine's wait for ready is incomplete: to True, or to GONE."""
GONE = "gone"
"""The value of UNFINISHED once a wait has found that the machine no longer exists."""
_REQUESTED = (*names(lambda field: field.is_input and not field.is_late), IMPORTED)

DEFAULTS = {"wait": True, "wait_for_ssh": False}
REQUIRED = ("instance_type", "ssh_key")
"""The inputs that every program sets."""

_TYPES = sorted(instance_type.value for instance_type in InstanceType)  # the smaller first
_SECTORS = [sector.value for sector in Sector]
_FORMS = dict.fromkeys(("wait_for_capacity", "max_age"), "a duration such as '6h'")
_LONGEST = 30 * 86400.0
"""The longest duration in seconds."""


class Failure(NamedTuple):
    """One problem with the inputs. The reason names the property but repeats no secret value."""

    property: str
    reason: str


def failures(news: Mapping[str, Any]) -> Iterator[Failure]:
    """Yield every problem with these inputs. UNKNOWN values are not checked."""
    checks: dict[str, Callable[[str], str | None]] = {
        "instance_type": _instance_type_problem,
        "ssh_key": _ssh_key_problem,
        "sector": _sector_problem,
        "wait_for_capacity": _duration_problem,
        "max_age": _duration_problem,
    }
    for name, check in checks.items():
        value = news.get(name)
        if value is UNKNOWN:
            continue
        if value is None and name in REQUIRED:
            yield Failure(name, f"{name} is missing")
        elif value is not None and not isinstance(value, str):
            yield Failure(
                name, f"{name} must be {_FORMS.get(name, 'a string')}, not {_kind(value)}"
            )
        elif value is not None and (problem := check(value)):
            yield Failure(name, f"{name} {problem}")
    for name in ("wait", "wait_for_ssh"):
        value = news.get(name)
        if value not in (None, UNKNOWN) and not isinstance(value, bool):
            yield Failure(name, f"{name} must be True or False, not {_kind(value)}")
    if news.get("wait") is False and news.get("wait_for_ssh") is True:
        yield Failure(
            "wait_for_ssh",
            "wait_for_ssh is True, but wait is False, so nothing would be awaited; leave one of "
            "them out",
        )
    has_sector = InstanceType.has_sector(news.get("instance_type"))
    if not has_sector and news.get("sector") not in (None, UNKNOWN):
        yield Failure(
            "sector",
            f"sector is for InfiniBand between {' or '.join(InstanceType.with_infiniband())} "
            "machines; leave it out with a type that has none",
        )


def unknown(news: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning about each name that this version does not know. The API may know others."""
    for property_, what, known in (
        ("instance_type", "instance type", _TYPES),
        ("sector", "sector", _SECTORS),
    ):
        name = news.get(property_)
        if not isinstance(name, str) or name in known:
            continue
        yield (
            f"This version does not know the {what} {name}, only {', '.join(known[:-1])} and "
            f"{known[-1]}. The API decides whether it exists."
        )


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


def waits(props: Mapping[str, Any]) -> bool:
    """Whether create has to wait until the machine is ready."""
    return props.get("wait") is not False


def waits_for_ssh(props: Mapping[str, Any]) -> bool:
    """Whether create also has to wait until an SSH server greets on the machine."""
    return waits(props) and props.get("wait_for_ssh") is True


def replacements(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """Return the names of the inputs whose change replaces the machine.

    An UNKNOWN value counts as a change. An input that is not in state, as after a bulk import, does
    not. Nor does requesting the sector that the machine is in, or no longer requesting one.
    """
    # Early versions stored a requested sector separately until the API showed the actual one.
    before = {"sector": olds.get("requested_sector") or None, **olds}
    changed = []
    for name in REPLACING:
        old, new = before.get(name), news.get(name)
        if old is None or (name == "sector" and new is None):
            continue
        same = models.same_key if name == "ssh_key" else str.__eq__
        if new is UNKNOWN or not same(str(old), str(new)):
            changed.append(name)
    return changed


def _instance_type_problem(value: str) -> str | None:
    """Return None for a known type and for one that may be new, or the reason for a likely typo."""
    if value in _TYPES:
        return None
    if not _is_name(value):
        return f"is not the name of an instance type; known types are {' and '.join(_TYPES)}"
    # A name with other numbers may be a new type, which the API can have before this version.
    near = _closest(value, _TYPES)
    return f"is not a known instance type: did you mean {near}?" if near else None


def _sector_problem(value: str) -> str | None:
    """Return None for a known sector and for one that may be new, or the reason for a typo."""
    near = _closest(value, _SECTORS)
    if value in _SECTORS or (near is None and _is_name(value)):
        return None
    hint = f": did you mean {near}?" if near and re.search(r"\d", value) else ""
    return f"is not one of {', '.join(_SECTORS)}{hint}"


def _is_name(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.-]+", value) is not None


def _duration_problem(value: str) -> str | None:
    from pulumi_fal import clock  # late, because every program that declares machines loads this

    if 0 < (clock.parse_duration(value) or 0) <= _LONGEST:
        return None
    # Only what is meant as a duration is quoted.
    is_meant_so = re.fullmatch(r"[-+]?\d{1,6}[\d.:]{0,6} ?[a-z]{0,7}", value, re.ASCII)
    quoted = f", not {value!r}" if is_meant_so else ""
    return f"must be a duration of at most 30 days such as 6h, 30m or 1h30m{quoted}"


def _closest(value: str, known: list[str]) -> str | None:
    """Return the known name that `value` is likely a typo of: similar, and with no other number."""
    import difflib  # late, as above

    for near in difflib.get_close_matches(value.lower(), known, n=len(known), cutoff=0.6):
        numbers = iter(re.findall(r"\d+", near))
        if all(number in numbers for number in re.findall(r"\d+", value)):
            return near
    return None


def _ssh_key_problem(value: str) -> str | None:
    try:
        models.parse_key(value)
    except ValueError as error:
        return str(error)
    return None


def outputs_of(
    instance: Instance, props: Mapping[str, Any], account_id: AccountId
) -> dict[str, Any]:
    """Return the outputs for a machine: what the API shows, and what was requested.

    `props` are the resource's inputs or its earlier outputs. `account_id` names the account
    that the machine was seen with.
    """
    outs = {
        **{name: value for name, value in vars(instance).items() if name in _OUTPUTS},
        # The API shows the sector of a new machine late. Until then, use the requested one, if any.
        "sector": instance.sector or props.get("sector"),
        **vars(account_id),
        **requested(props),
    }
    return {name: value for name, value in outs.items() if value is not None}


def planned_outputs(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs that a preview shows for a machine that would be created."""
    return {**unknown_outputs(), **{name: props[name] for name in NAMES if name in props}}


def unknown_outputs() -> dict[str, Any]:
    """Return the outputs that are known only after the wait for a machine."""
    return dict.fromkeys(_LATE, UNKNOWN)


def requested(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that are copied to the outputs; `props` are inputs or earlier outputs.

    Late ones are not among them: the outputs have the sector that the machine is in. IMPORTED is.
    """
    return {name: props[name] for name in _REQUESTED if name in props}
