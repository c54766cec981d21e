"""The libvirt bridge's own suite (Rust) between two real hosts: machines move by every way, are given up, leave nothing behind."""

import os
import re
import subprocess

from harness.base import ROOT
from harness.hosts import Hosts


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.hosts = stack.enter_context(Hosts(work, 2))
    for name, where in (("busy", None), ("lonely", "own")):
        p.hosts.guest(name, where=where)
        p.hosts[1].virsh("start", name)
    p.hosts.speaks("busy")
    p.hosts.speaks("lonely")
    return p


def suite(p, *only):
    """Runs tests of the bridge by name; gives back what they noted."""
    env = {
        **os.environ,
        "RUST_BACKTRACE": "0",
        "ARCHIPEL_TEST_QEMU_PAIR": f"{p.hosts[1].uri} {p.hosts[2].uri}",
        "ARCHIPEL_TEST_QEMU_BUSY": "busy",
        "ARCHIPEL_TEST_QEMU_OWN": "lonely",
        "ARCHIPEL_TEST_QEMU_CPU": re.search(r"<cpu>.*?</cpu>", p.hosts[1].virsh("capabilities"), re.S)[0],
    }
    command = ["cargo", "test", "--locked", "-q", "-p", "archipel-libvirt", "--test", "moving", "--", "--test-threads=1", "--nocapture", "--exact"]
    done = subprocess.run(command + list(only), cwd=ROOT, env=env, capture_output=True, text=True, timeout=140)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "SKIPPED" not in said, said[-2000:]
    passed = re.search(r"test result: ok\. (\d+) passed", said)
    assert passed and int(passed[1]) == len(only), said[-2000:]
    quiet(p)
    return "; ".join(re.findall(r"NOTE (.+)", said))


def quiet(p):
    """Both guests are where they were, nothing is left on the other host, and no history was forked."""
    for name in ("busy", "lonely"):
        p.hosts.speaks(name)
        assert (p.hosts.running_on(name), len(p.hosts[1].qemus(name)), p.hosts[2].qemus(name)) == (["h1"], 1, []), name
    assert not p.hosts[2].states() and not p.hosts[2].listeners(), (p.hosts[2].states(), p.hosts[2].listeners())
    p.hosts.history("busy")
    p.hosts.history("lonely", p.hosts[1].work / "own/lonely.img")
    assert not list((p.hosts[2].work / "own").iterdir()), "a copied disk was left on the second host"


def test_the_contract_of_moving_holds(p):
    return suite(p, "the_contract_of_moving_holds_between_real_hosts")


def test_a_busy_machine_travels_by_every_way(p):
    return suite(p, "a_busy_machine_travels_by_every_way")


def test_a_transfer_is_given_up_and_others_go_on(p):
    return suite(p, "a_busy_transfer_can_be_given_up", "reads_are_answered_while_machines_are_on_their_way")


def test_what_stands_in_the_way_is_told_before(p):
    return suite(
        p, "storage_that_is_not_known_to_be_shared_is_told_before", "a_processor_or_machine_that_is_not_there_is_told_before",
        "a_guest_that_sees_its_hosts_own_processor_needs_one_that_has_all_of_it",
    )


def test_disks_are_copied(p):
    return suite(p, "disks_are_copied_and_a_copy_that_was_given_up_is_removed")


def test_post_copy(p):
    return suite(p, "post_copy_is_switched_to_in_the_first_pass")


def test_a_forked_history_is_noticed(p):
    """The judge itself: a block of another past, a hole, a repeated block and the guest's own alarm are each refused."""
    p.hosts.speaks("busy")
    image = p.hosts.shared / "busy.img"
    good = image.read_bytes()
    copy = p.hosts.work / "forked.img"

    def refused(change, word):
        data = bytearray(good)
        change(data)
        copy.write_bytes(bytes(data))
        try:
            p.hosts.history("busy", copy)
        except AssertionError as e:
            assert word in str(e), e
        else:
            raise AssertionError(f"not noticed: {word}")

    third = 3 * 512
    refused(lambda d: d.__setitem__(slice(third + 16, third + 20), b"fork"), "does not go on from")
    refused(lambda d: d.__setitem__(slice(third, third + 4), b"\0\0\0\0"), "a hole")
    refused(lambda d: d.__setitem__(slice(third + 12, third + 16), b"\1\0\0\0"), "after")
    refused(lambda d: d.__setitem__(slice(third + 4, third + 8), b"else"), "another machine")
    copy.write_bytes(good)
    assert p.hosts.history("busy", copy)[1] > 3
    said = p.hosts.serial("busy")
    with said.open("ab") as serial:
        serial.write(b"!")
    try:
        p.hosts.history("busy", copy)
    except AssertionError as e:
        assert "itself found" in str(e)
    else:
        raise AssertionError("the guest's own alarm was not heard")
    said.write_bytes(said.read_bytes().replace(b"!", b""))
