"""The servicer's methods for everything but resources: schema, config, component and functions.

The engine starts one process for each provider of a program, so each account has its own process.
"""

from __future__ import annotations

import functools
import json
import os
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from pulumi_fal._version import __version__
from pulumi_fal.api import settings
from pulumi_fal.api.settings import API, API_KEY, ENDPOINT, OPTIONS, AccountId, Settings
from pulumi_fal.errors import ConfigurationError, FalError, runnable
from pulumi_fal.hosts import engine
from pulumi_fal.hosts.engine import Request, Session
from pulumi_fal.native.properties import camel, received, secret, secrets_in, sent
from pulumi_fal.resource.call import UNKNOWN, WARNING
from pulumi_fal.stacks.cache import UNKNOWN_ID
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN

if TYPE_CHECKING:
    # It needs requests, and most previews never call the API.
    from pulumi_fal.api.client import Client
    from pulumi_fal.api.models import Instance

GET_INSTANCE, GET_INSTANCES = "fal:index:getInstance", "fal:index:getInstances"
FILTERS = {
    "instance_type": "Only machines of this type.",
    "sector": "Only machines in this sector.",
    "status": "Only machines with this status.",
    "region": "Only machines in this region. Only the v1 API returns regions.",
}
"""The arguments of getInstances, with their descriptions in the schema."""
LIST_FILTERS = ("status", "instance_type")
"""Those by which List finds machines. There may be more, but a name can never be taken back."""

T = TypeVar("T")


class NativeSession(Session):
    """The objects that a process needs once it is configured."""

    def __init__(
        self,
        config: Mapping[str, str],
        send: Callable[..., object],
        *,
        declared: str = "",
        is_stateless: bool = False,
        provider: str = "",
    ) -> None:
        """`declared` is the name of the provider in the program, or "" for the default provider.

        `is_stateless` says that `pulumi do` works without a stack. The config is then what the
        command was given, and overrides the environment.
        Raises ConfigurationError if `parallel` is not a positive number.
        """
        environ = environment(config, is_default=not (declared or is_stateless))
        super().__init__(environ, config.get, send)
        self.declared = declared
        self.provider = provider
        self.is_stateless = is_stateless
        self.slots = threading.Semaphore(settings.parallel(environ, config.get))
        """Limits the number of machines that the process works on at the same time."""

    def settings(self) -> Settings:
        """Return the settings. Raises ConfigurationError if one of them is unusable."""
        resolved = replace(super().settings(), provider=self.declared)
        if not self.config(API_KEY.key):
            return resolved
        if self.is_stateless:
            return replace(resolved, key_source="the provider's config that `pulumi do` was given")
        if not self.declared:
            return resolved
        # Refresh and destroy use the key in state.
        source = f"the apiKey of the provider {self.declared!r} as of the last `pulumi up`"
        return replace(resolved, key_source=source)

    def saw_last(self, outputs: Mapping[str, Any]) -> bool:
        """Whether the key that is set is the one that the machine in state was last seen with.

        This opens no account, because that imports requests, and most previews don't need it.
        """
        try:
            return AccountId.of(outputs).key in self.settings().account_id.own_keys
        except ConfigurationError:
            return False


def is_default(name: str) -> bool:
    """Whether this is the name of the default provider, which uses the stack's config.

    The engine calls it `default`, with the version and the download URL of the plugin if the
    program's SDK sets them. Old engines send no name.
    """
    return not name or re.fullmatch(r"default(_\d+_\d+_\d+.*|_\w+_/.*)?", name) is not None


def is_stateless(request: Any) -> bool:
    """Whether this is the provider of `pulumi do` without a stack, which has a URN without a name.

    The engine gives any other a name. Old engines give neither.
    """
    return bool(request.urn) and not request.name


def parse_config(args: Mapping[str, Any]) -> dict[str, str]:
    """Return the config as text by the stack's keys, without what a preview does not know yet."""
    return {
        f"fal:{name}": value if isinstance(value, str) else f"{value:g}"
        for name, value in args.items()
        if isinstance(value, str | int | float) and name != "version"
    }


def environment(config: Mapping[str, str], *, is_default: bool = False) -> dict[str, str]:
    """Return the environment without the variables that a declared provider's config overrides.

    Environment variables override the stack's config, as in the dynamic provider. But the arguments
    of a provider that the program declares override environment variables, because the program may
    declare providers for several accounts.
    """
    hidden = {option.variable for option in OPTIONS if option.key in config and not is_default}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def unused_settings(config: Mapping[str, str]) -> list[str]:
    """Return the names of the stack's settings that a declared provider with this config ignores.

    They are those that say where machines are, and that neither the provider's arguments nor the
    environment overrides. The engine passes the stack's config in PULUMI_CONFIG.
    """
    try:
        stack = json.loads(os.environ.get("PULUMI_CONFIG") or "{}")
        own = settings.resolve({"FAL_KEY": "none", **environment(config)}, config.get)
    except (ValueError, ConfigurationError):
        return []  # the first call of the API reports what is wrong
    return [
        option.name
        for option, used in ((API, own.api), (ENDPOINT, own.endpoint))
        if not option.text(os.environ, config.get)
        and stack.get(option.name, used).rstrip("/") != used
    ]


def invoke(token: str, args: Mapping[str, Any], client: Client) -> dict[str, Any]:
    """Call a function and return its result.

    Raises FalError if the call to the API fails, or if there is no such machine or function.
    """
    if token == GET_INSTANCE:
        if not args.get("id"):
            raise FalError("getInstance needs the id of a machine.")
        return _result(client.get_instance(str(args["id"])))
    if token != GET_INSTANCES:
        raise FalError(f"There is no function {token}.")
    found = client.matching_instances({name: args.get(name) for name in FILTERS})
    return {"instances": [_result(instance) for instance in found]}


def list_ids(token: str, query: Mapping[str, Any], limit: int, client: Client) -> list[str] | None:
    """Return the ids of the machines that match a query, at most `limit` unless that is 0.

    None if a preview does not know a value of the query yet. Raises FalError if the machines can't
    be listed, or if the token is that of something else.
    """
    if token != NATIVE_TYPE_TOKEN:
        raise FalError(f"There is no list of {token}.")
    if UNKNOWN in query.values():
        return None
    found = client.matching_instances({name: query.get(name) for name in FILTERS})
    return [instance.id for instance in found][: limit if limit > 0 else None]


def _result(instance: Instance) -> dict[str, Any]:
    return {camel(name): value for name, value in vars(instance).items() if value is not None}


def answered(method: Callable[[Any, Any, Any], T]) -> Callable[[Any, Any, Any], T]:
    """Decorate a method of the servicer so that its errors reach the engine.

    A FalError is sent as its text, and any other error with its traceback. The method may also
    abort the call itself.
    """

    @functools.wraps(method)
    def answer(self: ConfigurableProvider, request: Any, context: Any) -> T:
        engine.in_progress.enter()
        try:
            return method(self, request, context)
        except FalError as error:
            said = f"{type(error).__name__}: {runnable(str(error))}"
            is_awaited = error.is_awaited and self.request(request, context).ask_for_another_run(
                said
            )
            # Otherwise UNKNOWN would make the engine call the state of a machine "maybe corrupt".
            code = grpc.StatusCode.UNKNOWN if is_awaited else grpc.StatusCode.FAILED_PRECONDITION
            context.abort(code, said)
        except Exception:
            if context.code() is None:
                context.abort(grpc.StatusCode.INTERNAL, traceback.format_exc())
            raise
        finally:
            engine.in_progress.leave()
        raise AssertionError  # abort has raised

    return answer


class ConfigurableProvider(provider_pb2_grpc.ResourceProviderServicer):
    """One provider instance. The engine configures it once."""

    def __init__(self, engine_address: str = "") -> None:
        self._engine_address = ""
        self._logger: Callable[..., None] = lambda **fields: None
        self._reference = ""
        """How resources name this provider, URN::ID. Empty if the engine is too old to tell it."""
        self._session: NativeSession | None = None
        self._took_over = False
        """Whether a resource had another provider before this one."""
        self._lock = threading.Lock()
        if engine_address:
            self._connect(engine_address)

    @property
    def session(self) -> NativeSession:
        """The session from Configure. Before that, calls get one without config."""
        with self._lock:
            if self._session is None:
                self._session = NativeSession({}, self._send)
            return self._session

    def end(self) -> None:
        """End all waits after the engine's death, but wait until a POST in flight is recorded."""
        if self._session is not None:
            self._session.end()

    def request(self, request: Any, context: Any) -> Request:
        """Return what a call for a machine is about."""
        timeout = float(getattr(request, "timeout", 0)) or None
        return Request(request.urn, timeout, context, self._send)

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC names the methods
        # Components need a provider that accepts secrets. The engine then leaves it to the provider
        # to mark them in its answers. From here on, previews call Create and Update.
        self._connect(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True)

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._connect(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=__version__)

    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.GetSchemaResponse(schema=schema())

    @answered
    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Validate the config, and mark the key as a secret, even if the program does not.

        Failures name no property, because the engine would print its value, which may be the key.
        """
        config = parse_config(received(request.news))
        is_stacks = is_default(request.name) and not is_stateless(request)
        problem = settings.problem(environment(config, is_default=is_stacks), config.get)
        failures = [provider_pb2.CheckFailure(reason=problem)] if problem else []
        checked = secret(request.news, "apiKey")
        return provider_pb2.CheckResponse(inputs=checked, failures=failures)

    @answered
    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Report whether the config changed, which replaces no machine: a key may be a rotated one.

        The engine also asks a configured provider, for each resource that had another provider in
        state. Diff then compares the machine's account.
        """
        self._took_over |= self._session is not None
        is_same = received(request.olds) == received(request.news)
        some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(changes=none if is_same else some)

    @answered
    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        config = parse_config(received(request.args))
        declared = "" if is_default(request.name) else request.name
        configured = NativeSession(
            config,
            self._send,
            declared=declared,
            is_stateless=is_stateless(request),
            # Old engines tell none, and a preview of a stack that has none gets this mark.
            provider="" if request.id == UNKNOWN_ID else str(request.id),
        )
        with self._lock:
            self._session = configured
        if request.urn and request.id:
            self._reference = f"{request.urn}::{request.id}"
        for name in unused_settings(config) if declared else ():
            configured.stack.log(
                f"The provider {declared!r} in the program does not use the fal:{name} of the "
                "stack's config, which is only for the default provider. To use it, pass "
                f"`{name}` to the provider.",
                WARNING,
            )
        return provider_pb2.ConfigureResponse(
            supportsPreview=True, acceptSecrets=True, acceptResources=True
        )

    @answered
    def Construct(self, request: Any, context: Any) -> Any:  # noqa: N802
        # It needs the SDK's server for components, and most programs have none.
        from pulumi_fal.native import components

        try:
            return components.construct(request, self._engine_address, self._reference)
        except pulumi.RunError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    @answered
    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = invoke(request.tok, received(request.args), self.session.account.client)
        # Whatever is found with the help of a secret may tell it.
        secrets = found if secrets_in(request.args) else ()
        result: dict[str, Any] = {"return": sent(found, secrets)}  # `return` is Python's keyword
        return provider_pb2.InvokeResponse(**result)

    @answered
    def List(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        """Return all machines in one page, because `pulumi do` stops after the first.

        All are found before the first is sent, so that an error reaches the engine as any other.
        """
        response = provider_pb2.ListResponse
        ids = list_ids(
            request.token, received(request.query), request.limit, self.session.account.client
        )
        if ids is None:
            return iter([response(computed=response.Computed())])
        return iter([response(result=response.Result(id=id_)) for id_ in ids])

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._session is not None:
            self._session.cancel()
        return empty_pb2.Empty()

    def _connect(self, engine_address: str) -> None:
        self._engine_address = engine_address
        self._logger = engine.logger(engine_address)

    def _send(self, **fields: Any) -> None:
        """Send a LogRequest to the engine that is connected now."""
        self._logger(**fields)


@functools.cache
def schema() -> str:
    """Return the schema of the package as JSON. `make generate` writes it from the declarations."""
    return resources.files("pulumi_fal.native").joinpath("schema.json").read_text("utf-8")
