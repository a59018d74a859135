"""What the real agent's own commands can reach from inside a session: nothing that is not its own.

One prompt makes the agent run every probe; each test reads one of them. Every probe that proves an absence also does
something that must work, so that a probe which could not run at all does not pass. Where nothing isolates, the probes
do no harm: they open for writing and write nothing, and signal only a first process that is ours.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.adapters.sandboxes.stage import MOUNTPOINT
from tests.journeys.program import CANARY, Program, Viewer, begin, installation

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs package curl"),  # the sessions see the host's /usr
]

NETWORK = """
grep -c . /proc/net/route /proc/net/ipv6_route; cut -d: -f1 -s /proc/net/dev | tr -d ' '
for port in 3129 @SERVER@ @OTHER@; do
  (exec 7<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && echo "port $port open" || echo "port $port closed"
done
for address in @ADDRESS@ 169.254.169.254 1.1.1.1; do
  timeout 3 bash -c "exec 7<>/dev/tcp/$address/@OTHER@" 2>&1 && echo "$address reached" || echo "$address not reached"
done
"""
EGRESS = r"""
for line in 'CONNECT evil.example:443' 'CONNECT localhost:@SERVER@' 'CONNECT 127.0.0.1:@SERVER@' \
            'CONNECT pypi.org:22' 'CONNECT 169.254.169.254:80' \
            'GET http://evil.example/' 'CONNECT pypi.org:443@x:443'; do
  exec 7<>/dev/tcp/127.0.0.1/3128
  printf '%s HTTP/1.1\r\nHost: x\r\n\r\n' "$line" >&7
  echo "== $line: $(timeout 10 cat <&7 | tr -d '\r' | sed -n '1p;$p' | paste -sd' ')"
done
curl -sS -m 10 https://evil.example/ 2>&1
"""
MODEL = r"""
ask() { echo "== $1 $2: $(curl -s -m 10 -o /tmp/out -w '%{http_code}' -X "$1" --path-as-is "$3$2") $(cat /tmp/out)"; }
base=http://127.0.0.1:3129
ask GET / $base
ask GET /v1/files $base
ask POST /v1/messages/batches $base
ask GET /v1/messages $base
ask GET /v1/../admin $base
ask GET /v1/%2e%2e/admin $base
ask GET //evil.example/v1/models $base
ask GET /demo/calls $base
ask POST /configure $base
ask GET /v1/models?limit=1 $base
"""
OTHERS = """
cat /workspace/mine.txt
ls -d @HOME@ @SESSIONS@ @THEIRS@ @RUNTIME@ /root/.ssh 2>&1
cat @THEIRS@/secret.txt @KEY@ 2>&1
find / -xdev -name secret.txt -not -path '/proc/*' 2>/dev/null
grep -rs @NEEDLE@ /home /workspace /tmp /run /etc /var /opt/pilothouse/app --include='*' -l 2>/dev/null | head
find / -xdev -type s 2>/dev/null | sed 's/^/socket /'
sed 's/^/unix /' /proc/net/unix | grep -c @SESSION@
cat /proc/self/mountinfo | grep -c @SESSION@
"""
PROCESSES = r"""
for p in /proc/[0-9]*; do echo "pid ${p#/proc/} $(tr '\0\n' '  ' < $p/cmdline 2>/dev/null | cut -c1-900)"; done
tr '\0' ' ' < /proc/@HOST_PID@/cmdline 2>/dev/null
"""
RUNNER = r"""
for p in /proc/[0-9]*; do
  case "$(tr '\0' ' ' < $p/cmdline 2>/dev/null)" in *pilothouse.runner*) runner=${p#/proc/};; esac
done
echo "runner ${runner:-none}"
python3 - "$runner" <<'PY'
import ctypes, os, signal, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
own = subprocess.Popen(["sleep", "30"])
SEIZE = 0x4206
inside = [("runner", int(sys.argv[1])), ("first", 1)] if sys.argv[1] else []
for name, pid in [("own", own.pid), *inside]:
    for what in ("environ", "mem", "maps", "fd", "root", "cwd"):
        try:
            path = f"/proc/{pid}/{what}"
            look = {"fd": os.listdir, "root": os.readlink, "cwd": os.readlink}.get(what, lambda p: open(p).close())
            look(path)
            print(name, what, "open")
        except OSError as error:
            print(name, what, "refused", error.strerror)
    done = libc.ptrace(SEIZE, pid, 0, 0)
    print(name, "ptrace", "open" if done == 0 else "refused " + os.strerror(ctypes.get_errno()))
    try:
        os.close(libc.pidfd_getfd(os.pidfd_open(pid), 0, 0) if hasattr(libc, "pidfd_getfd") else
                 libc.syscall(438, os.pidfd_open(pid), 0, 0))
        print(name, "getfd open")
    except OSError as error:
        print(name, "getfd refused")
own.kill()
if open("/proc/1/cmdline", "rb").read() == b"/etc/pilothouse/sleep\0infinity\0":
    os.kill(1, signal.SIGTERM)
    os.kill(1, signal.SIGKILL)
    print("first survives")
PY
"""
WRITING = r"""
touch /workspace/mine2.txt && echo "workspace written"
app=/opt/pilothouse/app/pilothouse
for path in /opt/pilothouse $app /opt/pilothouse/site0 /usr/bin /etc /proc/sys/kernel / /dev; do
  mkdir $path/@MARK@ 2>/dev/null && rmdir $path/@MARK@ && echo "$path written"
done
for file in $app/__init__.py /etc/passwd /usr/bin/env /proc/sys/kernel/hostname; do
  [ -e $file ] && echo "there: $file"
  (: >> $file) 2>/dev/null && echo "$file written"
done
mkdir /tmp/@MARK@ && mount --bind /tmp/@MARK@ /tmp/@MARK@ 2>/dev/null && echo "mount written" && umount /tmp/@MARK@
unshare -Ur true 2>/dev/null && echo "userns written"
grep -E '^(NoNewPrivs|CapEff|CapBnd|Seccomp):' /proc/self/status | tr '\t' ' '
"""
SHELLS = {
    "network": NETWORK,
    "egress": EGRESS,
    "model": MODEL,
    "others": OTHERS,
    "processes": PROCESSES,
    "runner": RUNNER,
    "writing": WRITING,
}


@dataclass
class Probed:
    """What the agent's commands printed, and whom they looked for."""

    said: dict[str, str]
    port: str
    events: list[dict[str, object]]


def _address() -> str:
    """An address of this machine that is not loopback, if it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "192.0.2.1"
        return str(sock.getsockname()[0])


def _own_command() -> str:
    """This process's command line, as the probes print one."""
    return Path("/proc/self/cmdline").read_text().replace("\0", " ").strip()


def _script(**names: object) -> str:
    lines = ["demo: write mine.txt this is mine"]
    for shell in SHELLS.values():
        for name, value in names.items():
            shell = shell.replace(f"@{name.upper()}@", str(value))
        lines.append(f"demo: bash <<END_OF_PROBE\n{shell.strip()}\nEND_OF_PROBE")
    return "\n".join([*lines, "demo: say over"])


async def _theirs(program: Program) -> str:
    """Another session, with a secret in its workspace; it goes on running."""
    session, _, viewer = await begin(
        program, "write secret.txt their-secret-needle", agent="echo", permissionMode="acceptAll"
    )
    await viewer.until("complete")
    await viewer.close()
    return session


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probed() -> AsyncIterator[Probed]:
    async with installation() as (program, model):
        theirs = await _theirs(program)
        async with program.http() as http:
            made = await http.post("/api/sessions", json={"agent": "claude"})
            session = made.json()["id"]
        status, out, err = await program.cli("config", "--json")
        assert status == 0, err
        runtime = re.search(r'"runtime": "([^"]+)"', out)
        assert runtime is not None, out
        home = program.home / "ph"
        script = _script(
            server=program.url.rsplit(":", 1)[1],
            other=model.url.rsplit(":", 1)[1],
            address=_address(),
            home=home,
            sessions=home / "sessions",
            theirs=MOUNTPOINT / "disks" / theirs / "workspace",
            runtime=runtime[1],
            key=home / "local.key",
            needle="their-secret-needle",
            session=session,
            host_pid=os.getpid(),
            mark=f"pilothouse-probe-{session}",
        )
        viewer = Viewer(program, session)
        async with program.http() as http:
            job = await http.post(
                f"/api/sessions/{session}/jobs", json={"prompt": script, "permissionMode": "acceptAll"}
            )
            assert job.status_code == 202, job.text
        await viewer.until("complete")
        done = viewer.of("complete")[0]
        assert done["outcome"] == "succeeded", done
        shells = [e["toolId"] for e in viewer.of("tool_use") if e["tool"] == "Bash"]
        results = {e["toolId"]: e["result"] for e in viewer.of("tool_result")}
        said = dict(zip(SHELLS, (results[tool] for tool in shells), strict=True))
        yield Probed(said, program.url.rsplit(":", 1)[1], viewer.events)
        await viewer.close()


async def test_the_log_says_namespaces(probed: Probed) -> None:
    kinds = {e["isolation"] for e in probed.events if e["type"] == "session"}
    assert kinds == {"namespaces"}


async def test_there_is_no_way_to_a_port_of_the_host(probed: Probed) -> None:
    said = probed.said["network"]
    assert "port 3129 open" in said, "its own model listener is there, so the probe works"
    assert said.count("closed") == 2, said
    assert said.count("not reached") == 3, said
    assert re.findall(r"^\w+$", said, re.MULTILINE) == ["lo"], said


async def test_the_network_is_refused_by_name_and_in_words(probed: Probed) -> None:
    said = probed.said["egress"]
    rows = dict(re.findall(r"^== (.+?): (HTTP.*)$", said, re.MULTILINE))
    assert len(rows) == 7, said
    for asked, answer in rows.items():
        assert answer.startswith("HTTP/1.1 400" if "@" in asked else "HTTP/1.1 403"), (asked, answer)
        assert "Pilothouse: " in answer, (asked, answer)
    assert "evil.example:443 is refused" in rows["CONNECT evil.example:443"]
    assert f"127.0.0.1:{probed.port} is refused" in rows[f"CONNECT 127.0.0.1:{probed.port}"]
    assert "CONNECT tunnel failed, response 403" in said or "403" in said.splitlines()[-1]


async def test_the_model_listener_serves_the_model_and_nothing_else(probed: Probed) -> None:
    said = probed.said["model"]
    codes = {f"{m} {p}": int(c) for m, p, c in re.findall(r"^== (\S+) (\S+): (\d{3})", said, re.MULTILINE)}
    assert codes.pop("GET /") == 200, "it answers, so the probe works"
    assert codes.pop("GET /v1/models?limit=1") == 200
    assert codes.pop("GET /v1/messages") == 405
    assert len(codes) == 7, said
    assert set(codes.values()) <= {400, 404}, codes
    assert CANARY not in said


async def test_other_sessions_the_server_and_the_links_are_not_there(probed: Probed) -> None:
    said = probed.said["others"]
    assert said.startswith("this is mine"), said
    refused = said.count("No such file or directory")
    assert refused >= 7, said
    assert "their-secret-needle" not in said
    assert "socket /" not in said, "no unix socket of ours has a path inside"
    assert said.rstrip().splitlines()[-2:][0] == "0", said


async def test_only_its_own_processes_are_seen(probed: Probed) -> None:
    said = probed.said["processes"]
    rows = {int(pid): line for pid, line in re.findall(r"^pid (\d+) (.*)$", said, re.MULTILINE)}
    assert rows[1].strip() == "/etc/pilothouse/sleep infinity"
    for pid, line in rows.items():
        own = ("/etc/pilothouse/sleep infinity", "pilothouse.runner", "_bundled/claude", "bash")
        assert not line.strip() or any(name in line for name in own), (pid, line)
    assert "serve" not in said
    assert _own_command() not in said


async def test_the_runner_cannot_be_looked_into(probed: Probed) -> None:
    said = probed.said["runner"]
    assert re.search(r"^runner \d+$", said, re.MULTILINE), said
    for what in ("environ", "mem", "ptrace", "getfd"):
        assert re.search(rf"^own {what}.* open|^own {what} open", said, re.MULTILINE), (what, said)
        assert re.search(rf"^runner {what} refused", said, re.MULTILINE), (what, said)
        assert re.search(rf"^first {what} refused", said, re.MULTILINE), (what, said)
    assert "runner fd refused" in said
    assert "first survives" in said, f"signal {signal.SIGKILL} does not reach the first process: {said}"


async def test_nothing_is_writable_but_its_own(probed: Probed) -> None:
    said = probed.said["writing"]
    assert re.findall(r"^(\S+) written$", said, re.MULTILINE) == ["workspace"], said
    assert said.count("there: ") == 4, said
    assert "NoNewPrivs: 1" in said
    assert "CapEff: 0000000000000000" in said
    assert "CapBnd: 0000000000000000" in said
    assert "Seccomp: 2" in said


async def test_the_probes_see_the_host_where_nothing_isolates(tmp_path: Path) -> None:
    """The same probes in a session that nothing isolates find what they look for."""
    async with installation(PILOTHOUSE_SANDBOX="host") as (program, model):
        theirs = await _theirs(program)
        secret = program.home / "ph" / "sessions" / theirs / "workspace" / "secret.txt"
        command = (
            f"cat {secret}; (exec 7<>/dev/tcp/127.0.0.1/{model.url.rsplit(':', 1)[1]}) && echo port open; "
            f"tr '\\\\0' ' ' < /proc/{os.getpid()}/cmdline"
        )
        _, _, viewer = await begin(program, f"demo: bash {command}\ndemo: say over", permissionMode="acceptAll")
        await viewer.until("complete")
        found = viewer.of("tool_result")[0]["result"]
        assert "their-secret-needle" in found
        assert "port open" in found
        assert _own_command() in found
        assert viewer.of("session")[0]["isolation"] == "none"
        await viewer.close()
