"""The part of Pulumi Cloud's REST API that the `pulumi` command needs, in a thread.

The routes are those of pkg/backend/httpstate/client in Pulumi's source. The service offers no
optional capability, so the command saves whole checkpoints.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "pul-0123456789abcdef"
Body = dict[str, Any]
Name = tuple[str, str, str]
"""A stack's organization, project and name."""


class RefusedError(Exception):
    """A request that the service refuses, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class CloudStack:
    tags: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    version: int = 0
    deployment: dict[str, Any] = field(default_factory=dict)
    """The latest checkpoint; empty before the first."""
    update: str = ""
    """The id of the last update, which may be in progress."""
    is_locked: bool = False
    """Whether that update is in progress."""


class Stacks:
    """All stacks of all organizations. Every method may be called from any thread."""

    def __init__(self, user: str, organizations: tuple[str, ...]) -> None:
        """`user` has an organization of that name, and is a member of the other organizations."""
        self.user = user
        self.organizations = (user, *organizations)
        self.stacks: dict[Name, CloudStack] = {}
        self.lock = threading.RLock()

    def get(self, name: Name) -> CloudStack:
        try:
            return self.stacks[name]
        except KeyError:
            raise RefusedError(404, "Not Found: Stack not found") from None

    def create(self, name: Name, tags: dict[str, str]) -> None:
        if name[0] not in self.organizations:
            raise RefusedError(404, "Not Found: Organization not found")
        if name in self.stacks:
            raise RefusedError(409, "Conflict: Stack already exists")
        self.stacks[name] = CloudStack(tags)

    def begin(self, name: Name) -> str:
        """Begin an update; its id. Only one can be in progress."""
        stack = self.get(name)
        if stack.is_locked:
            raise RefusedError(
                409, "Conflict: Another update is currently in progress.\nTo learn more about it..."
            )
        stack.update, stack.is_locked = str(uuid.uuid4()), True
        stack.version += 1
        return stack.update

    def save(self, name: Name, update: str, checkpoint: dict[str, Any]) -> None:
        """Save a checkpoint of the update. Raises RefusedError if it is no longer in progress."""
        stack = self.get(name)
        if update != stack.update or not stack.is_locked:
            raise RefusedError(403, "Forbidden: The update is no longer in progress")
        stack.deployment = checkpoint

    def end(self, name: Name, update: str) -> None:
        stack = self.get(name)
        if update == stack.update:
            stack.is_locked = False

    def resources(self, name: Name) -> list[dict[str, Any]]:
        deployment = self.get(name).deployment.get("deployment") or {}
        resources: list[dict[str, Any]] = deployment.get("resources") or []
        return resources


class CloudService:
    """Serves the API at `url` during a `with` block. `stacks` can be inspected at any time."""

    def __init__(self, user: str, *organizations: str) -> None:
        self.stacks = Stacks(user, organizations)
        self.environments: dict[str, dict[str, str]] = {}
        """Variables of each environment of Pulumi ESC, by its name. It is in all organizations."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> CloudService:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = Api(self.stacks, self.environments)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                # The command may be killed at any time.
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def _serve(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    sent = gzip.decompress(sent)
                status, answer = api.serve(self.command, self.path, json.loads(sent or b"null"))
                text = json.dumps(answer).encode()
                print(f"{self.command} {self.path} -> {status}")
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = _serve  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Log nothing: `_serve` prints one line for each request."""

        return Handler


class Api:
    """Finds the function for a request, and calls it. Each returns the body of the answer."""

    def __init__(self, stacks: Stacks, environments: dict[str, dict[str, str]]) -> None:
        self._stacks = stacks
        self._environments = environments
        on_stack = self._on_stack
        self._routes: list[tuple[str, Callable[..., Any]]] = [
            ("GET /api/user", self._user),
            ("GET /api/user/organizations/default", lambda body: {"GitHubLogin": stacks.user}),
            ("GET /api/user/stacks", lambda body, **query: {"stacks": self._summaries(**query)}),
            ("POST /api/stacks/(ORG)/(PROJECT)", self._create),
            ("GET STACK", on_stack(self._describe)),
            ("GET STACK/export", on_stack(self._export)),
            ("POST STACK/import", on_stack(self._import)),
            ("POST STACK/encrypt", on_stack(self._encrypt)),
            ("POST STACK/(?:update|destroy)", on_stack(self._begin)),
            ("POST STACK/update/(ID)", on_stack(self._start)),
            ("GET STACK/update/(ID)", on_stack(lambda *args, **query: {"status": "succeeded"})),
            ("POST STACK/update/(ID)/renew_lease", on_stack(lambda *args: {"token": "lease"})),
            ("POST STACK/update/(ID)/events/batch", on_stack(lambda *args: {})),
            ("PATCH STACK/update/(ID)/checkpoint", on_stack(self._save)),
            ("POST STACK/update/(ID)/(?:complete|cancel)", on_stack(self._end)),
            ("POST /api/esc/environments/ORG/yaml/open", self._open),
            ("GET /api/esc/environments/ORG/yaml/open/(ID)", self._variables),
        ]

    def serve(self, method: str, target: str, body: Body) -> tuple[int, Any]:
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        for route, function in self._routes:
            pattern = route.replace("STACK", "/api/stacks/(ORG)/(PROJECT)/(NAME)")
            pattern = re.sub("ORG|PROJECT|NAME|ID", "[^/]+", pattern)
            match = re.fullmatch(pattern, f"{method} {parts.path}")
            if match:
                try:
                    with self._stacks.lock:
                        return 200, function(*match.groups(), body, **query)
                except RefusedError as error:
                    return error.status, {"code": error.status, "message": str(error)}
        return 404, {"code": 404, "message": "Not Found"}

    @staticmethod
    def _on_stack(function: Callable[..., Any]) -> Callable[..., Any]:
        """Pass a stack's three names as one Name."""
        return lambda org, project, name, *rest, **query: function(
            (org, project, name), *rest, **query
        )

    def _user(self, body: None) -> Body:
        user, *others = self._stacks.organizations
        return {
            "githubLogin": user,
            "name": user,
            "email": f"{user}@cloud.test",
            "organizations": [{"githubLogin": name, "name": name} for name in (user, *others)],
        }

    def _summaries(self, project: str = "", organization: str = "", **other: str) -> list[Body]:
        return [
            {
                "orgName": org,
                "projectName": of,
                "stackName": name,
                "lastUpdate": 0 if stack.is_locked else 1_700_000_000 + stack.version,
            }
            for (org, of, name), stack in self._stacks.stacks.items()
            if project in ("", of) and organization in ("", org)
        ]

    def _create(self, org: str, project: str, body: Body) -> Body:
        self._stacks.create((org, project, body["stackName"]), body.get("tags") or {})
        return {}

    def _describe(self, name: Name, body: None) -> Body:
        stack, (org, project, stack_name) = self._stacks.get(name), name
        return {
            "id": stack.id,
            "orgName": org,
            "projectName": project,
            "stackName": stack_name,
            "activeUpdate": stack.update,
            "tags": stack.tags,
            "version": stack.version,
        }

    def _export(self, name: Name, body: None) -> Body:
        return self._stacks.get(name).deployment or {"version": 3, "deployment": {}}

    def _import(self, name: Name, body: Body) -> Body:
        update = self._stacks.begin(name)
        self._stacks.save(name, update, body)
        self._stacks.end(name, update)
        return {"updateId": update}

    def _begin(self, name: Name, body: Body) -> Body:
        return {"updateID": self._stacks.begin(name)}

    def _start(self, name: Name, update: str, body: Body) -> Body:
        return {"version": self._stacks.get(name).version, "token": "lease"}

    def _save(self, name: Name, update: str, body: Body) -> None:
        checkpoint = {"version": body["version"], "deployment": body["deployment"]}
        self._stacks.save(name, update, checkpoint)

    def _end(self, name: Name, update: str, body: Body | None) -> Body:
        self._stacks.end(name, update)
        return {}

    # A stack's file names its environments; the command opens them as one without a name.

    def _open(self, body: Body, **query: str) -> Body:
        return {"id": "+".join(name.replace("/", ".") for name in body["imports"])}

    def _variables(self, opened: str, body: None) -> Body:
        variables: Body = {}
        for name in opened.split("+"):
            variables |= self._environments[name.replace(".", "/")]
        secrets = {name: {"value": value, "secret": True} for name, value in variables.items()}
        return {"properties": {"environmentVariables": {"value": secrets}}}

    # No stack has a secret that the command would read back.

    def _encrypt(self, name: Name, body: Body) -> Body:
        text = f"{self._stacks.get(name).id}:{body['plaintext']}"
        return {"ciphertext": base64.b64encode(text.encode()).decode()}
