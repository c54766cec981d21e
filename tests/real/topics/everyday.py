"""The small commands of every day on a real QEMU guest, and how every answer looks to a person: no table and no list shows raw JSON."""

import json
import re
import subprocess

from harness.base import ROOT, until
from harness.daemon import CELL, Daemon
from harness.libvirt_host import LibvirtHost

RAW = f"raw@{CELL}"
# A device that the host's administrator lets be handed out. This host has no such thing, so it is only defined.
LISTED = "dead:beef"


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.work = work
    p.host = stack.enter_context(LibvirtHost(work))
    p.id = p.host.define("web1")
    p.daemon = Daemon(work, {"alpha": p.host.uri}, hypervisor=f'host_devices = ["{LISTED}"]')
    p.daemon.account("add", RAW, "--role", "admin-raw")
    stack.enter_context(p.daemon)
    p.daemon.wait_state("web1", "shutoff")
    p.daemon.cli("network", "define", "lab", "--address", "10.77.1.1/24", "--dhcp-start", "10.77.1.10", "--dhcp-end", "10.77.1.20")
    until(lambda: p.daemon.json("network", "list"), 20, "the network")
    return p


def info(p, kind, name, field):
    """A line of what virsh says of a thing."""
    return re.search(rf"^{field}:\s*(\S+)", p.host.virsh(f"{kind}info", name), re.M)[1]


def test_what_starts_with_its_host_is_chosen(p):
    for noun, name, kind, field in (("domain", "web1", "dom", "Autostart"), ("network", "lab", "net-", "Autostart"), ("storage-pool", "images", "pool-", "Autostart")):
        for word, shown in (("false", ("no", "disable")), ("true", ("yes", "enable")), ("false", ("no", "disable"))):
            p.daemon.cli(noun, "autostart", name, "--enabled", word)
            assert info(p, kind, name, field) in shown, (noun, word)


def test_a_name_is_given_and_taken_back(p):
    p.daemon.cli("domain", "rename", "web1", "web2")
    assert p.host.virsh("domname", p.id) == "web2" and p.daemon.wait_state("web2", "shutoff")["id"] == p.id
    p.daemon.cli("domain", "rename", "web2", "web1")
    p.daemon.wait_state("web1", "shutoff")


def test_networks_and_pools_go_up_and_down(p):
    p.daemon.cli("network", "start", "lab")
    assert info(p, "net-", "lab", "Active") == "yes"
    p.daemon.cli("network", "stop", "lab", "--yes")
    assert info(p, "net-", "lab", "Active") == "no"
    p.daemon.cli("network", "start", "lab")
    shown = p.daemon.json("network", "info", "lab")
    assert (shown["state"], shown["bridge"]) == ("active", info(p, "net-", "lab", "Bridge")), shown
    place = p.work / "built"
    p.daemon.cli("storage-pool", "define", "built", "--path", str(place))
    until(lambda: any(x["name"] == "built" for x in p.daemon.json("storage-pool", "list")), 10, "the pool")
    assert not place.exists()
    p.daemon.cli("storage-pool", "build", "built", "--yes")
    p.daemon.cli("storage-pool", "start", "built")
    assert place.is_dir() and info(p, "pool-", "built", "State") == "running"
    p.daemon.cli("storage-pool", "stop", "built", "--yes")
    p.daemon.cli("storage-pool", "undefine", "built", "--yes")


def test_a_guest_begins_anew_when_it_is_reset_and_hears_that_it_shall_reboot(p):
    p.daemon.cli("domain", "start", "web1")
    p.host.booted("web1")
    lines, count = p.host.beats("web1")
    until(lambda: p.host.beats("web1")[1] > 3, 30, "the guest to count")
    p.daemon.cli("domain", "reset", "web1", "--yes")
    serial = p.host.work / "web1.serial"
    anew = lambda: len(re.findall(rb"T0000\r|T0001\r", serial.read_bytes())) >= 3
    until(anew, 30, "the guest to count from the beginning")
    # It has no power management beyond the button, which it takes for the wish to power off; what counts is that it was asked.
    p.daemon.cli("domain", "reboot", "web1")
    shown = p.daemon.json("domain", "info", "web1")
    assert shown["name"] == "web1" and shown["host"] == "alpha", shown


def test_a_machine_is_taken_from_its_host_and_given_back(p):
    if p.host.state("web1") != "shut off":
        p.daemon.cli("domain", "force-off", "web1", "--yes", check=False)
    p.daemon.wait_state("web1", "shutoff")
    check = p.daemon.json("domain", "migrate-check", "web1")
    assert check == [], f"there is no other host: {check}"
    p.daemon.cli("domain", "park", "web1")
    until(lambda: [m["name"] for m in p.daemon.json("domain", "parked")] == ["web1"], 10, "it to be parked")
    assert "web1" not in p.host.virsh("list", "--all", "--name")
    p.daemon.cli("domain", "unpark", p.id)
    p.daemon.wait_state("web1", "shutoff", 20)
    assert p.daemon.json("domain", "parked") == [] and p.host.virsh("domuuid", "web1") == p.id


def test_a_listed_device_of_the_host_is_handed_over_at_the_next_boot(p):
    taken = p.daemon.json("domain", "attach-host-device", "web1", "--device", LISTED, "--when", "next-boot")
    assert taken["applies"] == "next-boot" and "<product id='0xbeef'/>" in p.host.virsh("dumpxml", "--inactive", "web1"), taken
    again = p.daemon.cli("domain", "attach-host-device", "web1", "--device", LISTED, check=False)
    assert again.returncode == 73, again
    # The host has no such device: it is libvirt that says so, and nothing runs.
    start = p.daemon.cli("domain", "start", "web1", check=False)
    assert start.returncode and p.host.state("web1") == "shut off", start
    p.daemon.cli("domain", "detach-host-device", "web1", "--device", LISTED, "--when", "next-boot", "--yes")
    assert "hostdev" not in p.host.virsh("dumpxml", "--inactive", "web1")


def test_the_cell_shows_its_members_and_its_tasks(p):
    p.daemon.json("cell", "members")
    done = p.daemon.json("storage-pool", "refresh", "images")
    assert done["message"], done
    p.daemon.json("task", "list")


def test_no_answer_for_people_is_raw(p):
    if p.host.state("web1") == "shut off":
        p.daemon.cli("domain", "start", "web1")
    p.daemon.cli("network", "add-host", "lab", "--mac", "52:54:00:77:00:02", "--address", "10.77.1.77", "--name", "fixed")
    p.daemon.cli("domain", "attach-nic", "web1", "--network", "lab", "--when", "next-boot")
    p.daemon.cli("domain", "set-vcpus", "web1", "--vcpus", "2", "--when", "next-boot")
    image = p.host.images / "more.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    p.host.virsh("pool-refresh", "images")
    names = {"cell": [], "hypervisor": ["alpha"], "domain": ["web1"], "network": ["lab"], "storage-pool": ["images"]}
    more = {"volume": "more.qcow2", "nwfilter": "none", "mac": "52:54:00:77:00:02"}
    ugly, told = [], 0
    for command in json.loads((ROOT / "actors/contract/catalog.json").read_text())["commands"]:
        wanted = [a["name"] for a in command["arguments"] if a["required"]]
        if command["effect"] != "read" or command["access"] == "node" or command["target"] not in names or not set(wanted) <= set(more):
            continue
        words = names[command["target"]] if command["target"] != "hypervisor" or command["noun"] == "hypervisor" else []
        options = [w for name in wanted for w in ([more[name]] if name in ("volume", "nwfilter") else [f"--{name}", more[name]])]
        done = p.daemon.cli(command["noun"], command["verb"], *words, *options, jid=RAW, check=False)
        if done.returncode:
            continue
        told += 1
        looks_raw = re.search(r"[\[{]\"|\":", done.stdout) and "media_type" not in done.stdout
        lines = done.stdout.splitlines()
        empty = len(lines) > 1 and lines[0].isupper() and any(set(line.split()) == {"-"} for line in lines[1:])
        if looks_raw or empty:
            ugly.append(f"{command['name']}:\n{done.stdout[:600]}")
    assert not ugly, "\n".join(ugly)
    assert told > 25, told
    return f"{told} answers"


def test_names_and_sizes_that_cannot_be_make_nothing(p):
    p.daemon.cli("domain", "force-off", "web1", "--yes", check=False)
    p.daemon.wait_state("web1", "shutoff")
    there = lambda: [p.host.virsh(*what, "--name") for what in (("list", "--all"), ("net-list", "--all"), ("pool-list", "--all"))]
    before = there()
    makers = (
        ("domain", "define"),
        ("domain", "rename", "web1"),
        ("network", "define", "--mode", "isolated"),
        ("storage-pool", "define", "--path", str(p.work / "bad")),
    )
    names = ("a/b", "a b", "..", "../up", "", "w\u0435b1", "web1\u200b", "-rf", "a" * 300, "a\nb", "<x/>", "$(id)")
    for noun, verb, *more in makers:
        # A name that begins like an option is one for the shell; with = and -- it is a name again.
        for name in names:
            words = [noun, verb, *(w for w in more if w == "web1"), *(w for w in more if w != "web1"), "--", name]
            done = p.daemon.cli(*words, check=False)
            assert done.returncode == 64 and "name" in done.stderr, (words, done.returncode, done.stderr)
    for options in (
        ("--memory=0",), ("--memory=-1",), ("--memory=10EiB",), ("--memory=17TiB",), ("--memory=much",), ("--vcpus=0",), ("--vcpus=-1",),
        ("--vcpus=513",), ("--disk=../../etc/passwd",), ("--disk=images/../../etc/passwd",), ("--network=../lab",),
    ):
        done = p.daemon.cli("domain", "define", "bad", *options, check=False)
        assert done.returncode == 64 and done.stderr.strip(), (options, done)
    taken = p.daemon.cli("domain", "define", "web1", check=False)
    assert taken.returncode == 73, taken
    assert there() == before and not (p.work / "bad").exists()
