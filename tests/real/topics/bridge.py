"""The libvirt bridge's own suites (Rust) against a real libvirtd and QEMU: conformance to the contract, restarts, a frozen libvirtd."""

import os
import re
import subprocess

from harness.base import ROOT
from harness.libvirt_host import LibvirtHost

# Kills libvirtd and starts it again in its namespaces, under a sub-reaper as the harness does.
RESTART = """
kill "$(cat {work}/run/libvirtd.pid)"
while [ -e "/proc/$(cat {work}/run/libvirtd.pid 2>/dev/null || echo none)" ]; do sleep 0.05; done
rm -f {work}/run/libvirtd.pid
setsid nsenter -t {keeper} -m -n -u -r tini -s -- libvirtd --pid-file /run/libvirt/libvirtd.pid >>{work}/log/stdout 2>&1 </dev/null &
until virsh -q -c '{uri}' version >/dev/null 2>&1; do sleep 0.05; done
"""


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.script = work / "restart"
    p.script.write_text(RESTART.format(work=p.host.work, keeper=p.host.keeper.pid, uri=p.host.uri))
    p.pool = p.host.work / "bridge-images"
    p.pool.mkdir()
    return p


def suite(p, name):
    """Runs one test file of the bridge; gives back how many tests it had."""
    env = {
        **os.environ,
        "ARCHIPEL_TEST_QEMU_URI": p.host.uri,
        "ARCHIPEL_TEST_QEMU_POOL_DIR": str(p.pool),
        "ARCHIPEL_TEST_QEMU_RESTART": f"sh {p.script}",
        "ARCHIPEL_TEST_QEMU_PID_FILE": str(p.host.work / "run/libvirtd.pid"),
    }
    done = subprocess.run(
        ["cargo", "test", "--locked", "-q", "-p", "archipel-libvirt", "--test", name, "--", "--test-threads=1", "--nocapture"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=280,
    )
    said = done.stdout + done.stderr
    failed = re.search(r"panicked at[^\n]*\n[^\n]*", said)
    assert done.returncode == 0, (failed[0] if failed else "") + said[-4000:]
    assert "SKIPPED" not in said, said[-2000:]
    passed = re.search(r"test result: ok\. (\d+) passed", said)
    assert passed and int(passed[1]) > 0, said[-2000:]
    return f"{passed[1]} tests"


def test_the_contract_holds_on_qemu(p):
    return suite(p, "conformance")


def test_guests_events_restarts_and_frozen_daemons(p):
    return suite(p, "qemu")
