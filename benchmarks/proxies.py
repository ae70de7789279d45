"""The proxies under test: how each is configured from its template in `peers/` and started."""

from __future__ import annotations

import getpass
import os
import shutil
import string
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import REPOSITORY
from benchmarks.processes import Processes, Running, StartError, command_line, free_port, listens, wait_until

TEMPLATES = Path(__file__).parent / "peers"
COLLECTS = "gatewayd.server.control"
"""Part of the command line of the process that collects call records."""
ORIGIN = "https://portal.example"
"""What the traffic of the policies scenario sends as Origin, so that CORS has something to do."""


class Template(string.Template):
    """`@{name}` is replaced: the languages of these files use the dollar sign themselves."""

    delimiter = "@"


def render(template: str, **values: object) -> str:
    """The template's text with its values in place; `KeyError` if one is missing."""
    return Template((TEMPLATES / template).read_text()).substitute({name: str(value) for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class Regulation:
    """What a proxy does beside forwarding, as templates of its own say: `gatewayd-NAME.toml`, `nginx-NAME.conf`.

    `values` are for these templates. `policies`: gatewayd's instances on every route; `by_route`: other ones on these.
    """

    name: str
    policies: tuple[str, ...] = ()
    by_route: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a scenario asks of a proxy. `routes`: so many more beside the usual; `policies`: ten instances on each;
    `audit`: gatewayd records calls in this mode, and collects them beside.
    """

    target: int
    workers: int = 1
    routes: int = 0
    policies: bool = False
    certificate: tuple[Path, Path] | None = None
    regulation: Regulation | None = None
    audit: str = ""

    @property
    def scheme(self) -> str:
        """Of the URLs it is asked by."""
        return "https" if self.certificate else "http"


@dataclass(slots=True)
class Proxy:
    """A proxy that runs: one program, or one for each worker. `name` is its name in the report."""

    name: str
    port: int
    setup: Setup
    programs: list[Running]
    cores: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)

    def pids(self) -> list[int]:
        """Every process of it: supervisors, workers, control, whatever it started."""
        return [pid for program in self.programs for pid in program.pids()]

    def aside(self) -> list[int]:
        """Those of them that no request waits for, where they have work of their own: what collects call records."""
        return [pid for pid in self.pids() if COLLECTS in command_line(pid)] if self.setup.audit else []

    def url(self, path: str) -> str:
        """Where to ask for `path`."""
        return f"{self.setup.scheme}://127.0.0.1:{self.port}{path}"


Command = Callable[[Setup, int, Path], list[list[str]]]
"""(setup, port, its own folder) to the command lines of its programs; writes its configuration into the folder."""


def user_line() -> str:
    """nginx started by root drops its workers to another user, who could not read this run's files."""
    return f"user {getpass.getuser()};" if os.geteuid() == 0 else ""


def file_limit() -> int:
    """Open files a process may have."""
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def extra_paths(number: int) -> list[str]:
    """Path prefixes of the routes scenario."""
    return [f"/v1/service-{index}/items" for index in range(number)]


def nginx(setup: Setup, port: int, folder: Path) -> list[list[str]]:
    """Its locations of plain prefixes are a tree, its best case."""
    locations = [f"    location {path}/ {{ proxy_pass http://policies; }}" for path in extra_paths(setup.routes)]
    fallback = "return 404;" if setup.routes else "proxy_pass http://policies;"
    certificate = ""
    if setup.certificate:
        chain, key = setup.certificate
        certificate = (
            f"    ssl_certificate {chain};\n    ssl_certificate_key {key};\n    ssl_protocols TLSv1.2 TLSv1.3;"
        )
    regulation = setup.regulation
    text = render(
        f"nginx-{regulation.name}.conf" if regulation else "nginx.conf",
        **(regulation.values if regulation else {}),
        user=user_line(),
        workers=setup.workers,
        files=file_limit(),
        folder=folder,
        log=folder / "access.log",
        target=setup.target,
        port=port,
        tls="ssl " if setup.certificate else "",
        certificate=certificate,
        routes="\n".join([*locations, f"    location / {{ {fallback} }}"]),
    )
    return [
        [
            "nginx",
            "-p",
            str(folder),
            "-e",
            str(folder / "error.log"),
            "-c",
            _write(folder, "nginx.conf", text),
        ]
    ]


def haproxy(setup: Setup, port: int, folder: Path) -> list[list[str]]:
    """Its prefixes come from a file, which it indexes as a tree."""
    routes = ""
    if setup.routes:
        listed = _write(folder, "routes", "".join(f"{path}/\n" for path in extra_paths(setup.routes)))
        routes = f"  http-request deny deny_status 404 unless {{ path -m beg -f {listed} }}"
    tls = f"ssl crt {setup.certificate[0].with_name('both.pem')} alpn http/1.1" if setup.certificate else ""
    text = render(
        "haproxy.conf",
        workers=setup.workers,
        connections=min(20_000, file_limit() // 2 - 100),  # it wants two descriptors for each
        port=port,
        target=setup.target,
        tls=tls,
        scheme=setup.scheme,
        routes=routes,
    )
    return [["haproxy", "-db", "-f", _write(folder, "haproxy.conf", text)]]


def caddy(setup: Setup, port: int, folder: Path) -> list[list[str]]:
    """Its routes are tried in order."""
    handles = [f"\thandle {path}/* {{\n\t\timport policies\n\t}}" for path in extra_paths(setup.routes)]
    fallback = "\thandle {\n\t\trespond 404\n\t}" if setup.routes else "\timport policies"
    text = render(
        "caddy.conf",
        port=port,
        folder=folder,
        target=setup.target,
        site=f"{setup.scheme}://:{port}",
        log=folder / "access.log",
        certificate=f"\ttls {setup.certificate[0]} {setup.certificate[1]}" if setup.certificate else "",
        routes="\n".join([*handles, fallback]),
    )
    return [["caddy", "run", "--adapter", "caddyfile", "--config", _write(folder, "caddy.conf", text)]]


def naive(setup: Setup, port: int, folder: Path) -> list[list[str]]:
    """One process a worker; routes mean nothing to it."""
    command = [sys.executable, "-m", "benchmarks.naive_proxy", "--port", str(port)]
    command += ["--target", f"http://127.0.0.1:{setup.target}", "--log", str(folder / "access.log")]
    if setup.certificate:
        command += ["--certificate", str(setup.certificate[0]), "--key", str(setup.certificate[1])]
    return [command] * setup.workers


def gatewayd(setup: Setup, port: int, folder: Path) -> list[list[str]]:
    """The program this is about, at its defaults."""
    text = render(
        "gatewayd.toml",
        workers=setup.workers,
        state=folder / "state",
        control=free_port(),
        log=folder / "access.log",
        port=port,
        certificate=_gatewayd_tls(setup.certificate),
        target=setup.target,
        routes=_gatewayd_routes(setup),
        policies=_gatewayd_policies(setup),
        audit=_gatewayd_audit(setup),
    )
    return [[sys.executable, "-m", "gatewayd", "-c", _write(folder, "conf.toml", text), "run"]]


def _gatewayd_tls(certificate: tuple[Path, Path] | None) -> str:
    if certificate is None:
        return ""
    chain, key = certificate
    return f'[listeners.edge.tls]\ncertificates = [{{ cert = "{chain}", key = "{key}" }}]\n'


def _gatewayd_routes(setup: Setup) -> str:
    everywhere = [*POLICIES] if setup.policies else [*setup.regulation.policies] if setup.regulation else []
    by_route = setup.regulation.by_route if setup.regulation else {}
    paths = {"policy": "/v1/policies/{id}", "quotes": "/v1/quotes", "large": "/large", "huge": "/huge/{size}"}
    paths |= {"public": "/public/{id}"}
    paths |= {f"extra-{index}": f"{path}/{{id}}" for index, path in enumerate(extra_paths(setup.routes))}
    return "\n".join(
        f'[routes.{name}]\npath = "{path}"\nservice = "policies"\npolicies = {list(by_route.get(name, everywhere))!r}\n'
        for name, path in paths.items()
    )


def _gatewayd_policies(setup: Setup) -> str:
    if setup.regulation:
        return render(f"gatewayd-{setup.regulation.name}.toml", **setup.regulation.values)
    return "\n".join(f"[policies.{name}]\n{options}" for name, options in POLICIES.items()) if setup.policies else ""


def _gatewayd_audit(setup: Setup) -> str:
    return f'[audit]\nenabled = true\nmode = "{setup.audit}"\n' if setup.audit else ""


def _inline(values: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


POLICIES = {
    "request_id": 'accept = "always"\n',
    "internal": 'policy = "ip_restriction"\nallow = ["127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16"]\n',
    "abuse": 'policy = "ip_restriction"\ndeny = '
    + _inline(f"198.18.{n // 64}.{n % 64 * 4}/30" for n in range(1000))
    + "\n",
    "sanctions": 'policy = "ip_restriction"\ndeny = ["203.0.113.0/24", "2001:db8::/32"]\n',
    "cors": f'origins = ["{ORIGIN}", "https://*.partner.example"]\n',
    "request_size": 'body = "256KiB"\n',
    "caller": 'policy = "headers"\n[policies.caller.request]\nset = { X-Caller = "{client}" }\n',
    "hide": 'policy = "headers"\n[policies.hide.request]\nremove = ["X-Debug", "X-Internal"]\n',
    "security": 'policy = "headers"\n[policies.security.reply]\nset = { X-Content-Type-Options = "nosniff", '
    'Strict-Transport-Security = "max-age=31536000" }\n',
    "trim": 'policy = "headers"\n[policies.trim.reply]\nremove = ["Server", "X-Powered-By"]\n',
}
"""Ten instances of the policies there are, none of which refuses the traffic: instance name to its options."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A proxy that can be started: its program on the PATH ("" for those in Python), its command, its environment."""

    name: str
    program: str
    command: Command

    def missing(self) -> str:
        """Why it cannot run here, "" if it can."""
        if self.program and shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        return ""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("gatewayd", "", gatewayd),
        Kind("nginx", "nginx", nginx),
        Kind("haproxy", "haproxy", haproxy),
        Kind("caddy", "caddy", caddy),
        Kind("aiohttp", "", naive),
    )
}
PEERS = tuple(name for name in KINDS if name != "gatewayd")


def start(
    processes: Processes,
    kind: str,
    setup: Setup,
    folder: Path,
    cores: Sequence[int],
    name: str = "",
    wait: bool = True,
) -> Proxy:
    """Start a proxy of that kind on `cores` and wait until it listens; `StartError` if it does not."""
    found = KINDS[kind]
    if reason := found.missing():
        raise StartError(reason)
    folder.mkdir(parents=True)
    port = free_port()
    environment = {
        "GOMAXPROCS": str(setup.workers),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
    }
    programs = [
        processes.start(
            name or kind,
            argv,
            log=folder / f"output-{index}.log",
            cores=cores,
            env=environment,
            cwd=REPOSITORY,
        )
        for index, argv in enumerate(found.command(setup, port, folder))
    ]
    proxy = Proxy(name or kind, port, setup, programs, tuple(cores))
    if wait:
        for program in programs:
            wait_until(lambda: listens(port), program)
    return proxy
