"""What a fault is: a kind, described so that a form can be made of it, and one armed instance."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where a fault can be made: in virtual time (the plugin and the simulator), in a running emulator
#: (by the control API), and with real processes, signals and sockets (``twolane_local.live``).
VIRTUAL, EMULATOR, LIVE = "virtual", "emulator", "live"


class FaultError(LocalError):
    """No such fault, or a parameter that it does not have."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value of a fault: its default also tells its type."""

    name: str
    default: str | float | int | None
    text: str


#: Every fault has these.
COMMON = (
    Parameter("target", "*", "which function, queue or key it is for; * and ? are wildcards"),
    Parameter("count", 1, "how often it happens; 0: each time"),
    Parameter("skip", 0, "how many occasions pass before it happens"),
    Parameter("chance", 1.0, "the share of occasions on which it happens, drawn from the seed"),
    Parameter("for_s", 0.0, "how many seconds it lasts from its first occasion; 0: no limit"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue. ``point`` is the seam at which it happens."""

    name: str
    text: str
    point: str
    own: tuple[Parameter, ...] = ()
    where: tuple[str, ...] = (VIRTUAL, EMULATOR)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All that can be set, its own first."""
        return (*self.own, *COMMON)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, for a form."""
        return {
            "name": self.name,
            "text": self.text,
            "point": self.point,
            "where": list(self.where),
            "parameters": [asdict(parameter) for parameter in self.parameters],
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to inject: a kind's name, what it is for, how often, and its own parameters."""

    name: str
    seed: int = 0
    target: str = "*"
    count: int = 1
    skip: int = 0
    chance: float = 1.0
    for_s: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; ``fault_of`` reads them again."""
        return {**asdict(self), "parameters": dict(self.parameters)}


def fault_of(value: Mapping[str, Any]) -> Fault:
    """The fault that ``Fault.as_dict`` wrote."""
    return Fault(**value)
