"""The session of the plugin process for dynamic providers: its config, and what programs tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pulumi_fal import engine
from pulumi_fal.api import settings
from pulumi_fal.dynamic import lifetime, patches, request
from pulumi_fal.errors import ConfigurationError, FalError
from pulumi_fal.resource.call import WARNING, Call
from pulumi_fal.session import Session
from pulumi_fal.tokens import is_ours


class DynamicSession(Session):
    """The objects of the plugin process. Other processes create it too, but never configure it."""

    def __init__(self) -> None:
        super().__init__(
            settings=lambda: settings.resolve(os.environ, self._config), notify=_note, warn=_warn
        )
        self._config: Callable[[str], Any] = lambda key: None
        self._was_checked = False
        self._missing: list[str] = []
        """The consequences of the patches that did not apply, until a warning has named them."""
        self.import_inputs: dict[str, Mapping[str, Any]] = {}
        """The inputs in the program for each machine that it imports, by the machine's id."""

    def configure(self, config: Callable[[str], Any]) -> None:
        """Store the config, and patch this process, and watch for the engine's death."""
        self._config = config
        applied = {  # the first one also serves the error of a wrong setting in the second
            "Errors have a traceback.": patches.without_traceback(FalError),
            "Only four machines are worked on at a time.": patches.raise_concurrency(
                settings.parallel(os.environ, config)
            ),
            "To end a wait, press Ctrl-C twice, then run `pulumi cancel`.": lifetime.on_cancel(
                self.clock.interrupt
            ),
            "`import_` fails; use `pulumi-fal import-file`.": patches.route_imports(
                is_ours, request.current().provider_key
            ),
        }
        self._missing = [without for without, is_applied in applied.items() if not is_applied]
        engine.on_death(self.end)

    def warn_of_missing(self) -> None:
        """Warn of what this version of the SDK does not allow, before the first call that needs it.

        Checks and diffs need none of it, so a preview does not warn.
        """
        missing, self._missing = self._missing, []
        if missing:
            lines = "\n".join(missing)
            _warn(
                "This version of the `pulumi` package does not allow all that pulumi-fal adds to "
                f"it:\n{lines}\nTo see which versions were tested:\n  pulumi-fal doctor"
            )

    def problem(self) -> str | None:
        """Return what is wrong with the settings, or None. Only the first call can return it.

        Every resource would show the same problem, and one that fails stops the command.
        """
        was_checked, self._was_checked = self._was_checked, True
        return None if was_checked else settings.problem(os.environ, self._config)

    def call(self, current: request.EngineRequest) -> Call:
        """Return the Call for a request. The first one warns about unresolved creates."""
        self.machines.review(current.urn)
        return Call(
            current.urn,
            current.timeout,
            was_checked=current.urn in self.checked,
            aliases=self.aliases.get(current.urn, ()),
            log=current.log,
            is_heard=current.is_heard,
            warned=self.warned,
        )

    def create_call(self, current: request.EngineRequest) -> Call:
        """Return the Call for a create. Raises ConfigurationError if the SDK hides the URN.

        Without its URN, the create could not be recorded.
        """
        if not current.urn:
            raise ConfigurationError(
                "This version of the `pulumi` package hides from pulumi-fal which resource it "
                "creates, so the create can't be recorded, and no machine is created. Install a "
                "version of `pulumi` that `pulumi-fal doctor` names as tested."
            )
        self.warn_of_missing()
        return self.call(current)


def _note(message: str) -> None:
    """Show an ephemeral message on the row of the resource that this thread serves."""
    request.current().log(message, ephemeral=True)


def _warn(message: str) -> None:
    """Show a warning on the stack's row, because its resource may not be part of this run."""
    request.EngineRequest().log(message, WARNING)
