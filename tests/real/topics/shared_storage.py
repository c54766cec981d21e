"""Storage that two hosts have: what a machine on one of them uses, the other takes from it in no way, whatever it is asked to do.

    h1: agent + exchange, asked to delete, wipe, rename ...        h2: agent, whose machines have the disks

`shared` is one directory under one path on both hosts, and `other` a pool of h2 on that directory by another path; `own` is under one
path a directory of its own on each. So the first two are one place, and the third is two.
"""

import pathlib

from harness.base import until
from harness.cluster import Cluster
from harness.hosts import run

MAC = "52:54:00:00:00:77"


class Parts:
    def do(self, *arguments, check=True):
        """A command for h1 and its pools, which have the same names on h2."""
        return self.cell.cli(*arguments, "--host", "h1", check=check)

    def refused(self, *arguments, words=()):
        done = self.do(*arguments, check=False)
        assert done.returncode, f"archipel {' '.join(arguments)} was not refused: {done.stdout}"
        for word in words:
            assert word in done.stderr, f"archipel {' '.join(arguments)}: {word!r} is not in {done.stderr!r}"

    def volume(self, name, pool="shared"):
        """An empty volume that both hosts know of, if it is on both."""
        self.do("volume", "create", pool, name, "--capacity", "4MiB", "--format", "raw")
        self.hosts[2].virsh("pool-refresh", pool)

    def define(self, name, host, place):
        self.cell.cli("domain", "define", name, "--memory", "32MiB", "--disk", place, "--host", host)
        self.cell.wait_state(name, "shutoff", 30)

    def gone(self, name):
        until(lambda: not self.cell.machine(name), 30, f"the end of {name}")

    def taking(self, name):
        """Every way in which h1 could take the volume from whoever has it, or write to it."""
        return [
            ("volume", "delete", "shared", name, "--yes"),
            ("volume", "wipe", "shared", name, "--yes", "--wait"),
            ("volume", "rename", "shared", name, "moved.img"),
            ("volume", "convert", "shared", name, "--format", "qcow2", "--wait"),
            ("domain", "attach-disk", "mine", f"shared/{name}"),
            ("domain", "define", "thief", "--disk", f"shared/{name}"),
        ]


def host(p, name):
    return next(h for h in p.cell.json("hypervisor", "list") if h["name"] == name)


def setup(stack, work):
    p = Parts()
    p.cluster = Cluster(stack, work, 2)
    p.cell, p.hosts = p.cluster.cell, p.cluster.hosts
    elsewhere = pathlib.Path(work) / "elsewhere"
    elsewhere.mkdir()
    run(*p.hosts[2].inside("mount", "--bind", p.hosts.shared, elsewhere))
    p.hosts[2].virsh("pool-define-as", "other", "dir", "--target", str(elsewhere))
    p.hosts[2].virsh("pool-start", "other")
    until(lambda: any(pool["name"] == "other" for pool in p.cell.json("storage-pool", "list")), 30, "the pool of the other path")
    p.volume("mine.img")
    p.define("mine", "h1", "shared/mine.img")
    p.volume("web1.img")
    p.define("web1", "h2", "shared/web1.img")
    return p


def test_what_a_machine_of_another_host_has_is_not_taken_from_it(p):
    used = p.cell.json("volume", "users", "shared", "web1.img", "--host", "h1")
    assert [(u["name"], u["host"]) for u in used] == [("web1", "h2")], used
    for command in p.taking("web1.img"):
        p.refused(*command, words=("web1 (", "on h2"))
    p.cell.cli("domain", "start", "web1")
    p.cell.wait_state("web1", "running", 30)
    for command in [*p.taking("web1.img"), ("volume", "resize", "shared", "web1.img", "2MiB", "--shrink")]:
        p.refused(*command, words=("web1 (", "on h2"))
    p.cell.cli("domain", "force-off", "web1", "--yes")
    p.cell.wait_state("web1", "shutoff", 30)
    assert (p.hosts.shared / "web1.img").stat().st_size == 4 << 20


def test_parked_it_still_has_it(p):
    p.cell.cli("domain", "park", "web1")
    p.refused("volume", "delete", "shared", "web1.img", "--yes", words=("web1 (", "parked", "on h2"))
    p.cell.cli("domain", "unpark", "web1", "--host", "h2")
    p.cell.wait_state("web1", "shutoff", 30)


def test_a_disk_that_two_machines_have_does_not_go_with_one_of_them(p):
    # Only other tools give a machine the disk of another.
    lines = p.hosts[2].virsh("dumpxml", "web1").replace("<name>web1<", "<name>twin<").splitlines()
    twin = p.hosts.work / "twin.definition"
    twin.write_text("\n".join(line for line in lines if "<uuid>" not in line))
    p.hosts[1].virsh("define", str(twin))
    p.cell.wait_state("twin", "shutoff", 30)
    p.refused("domain", "undefine", "twin", "--with-volumes", "all", "--yes", words=("web1 (", "on h2"))
    assert p.cell.machine("twin"), "it is refused before anything is done"
    p.do("domain", "undefine", "twin", "--yes")
    p.gone("twin")
    assert (p.hosts.shared / "web1.img").exists()


def test_it_is_the_same_file_by_another_path(p):
    p.volume("by-path.img")
    p.hosts[2].virsh("pool-refresh", "other")
    p.define("by-path", "h2", "other/by-path.img")
    p.refused("volume", "delete", "shared", "by-path.img", "--yes", words=("by-path (", "on h2"))
    p.cell.cli("domain", "undefine", "by-path", "--yes")
    p.gone("by-path")
    p.do("volume", "delete", "shared", "by-path.img", "--yes")
    assert not (p.hosts.shared / "by-path.img").exists()


def test_what_is_built_on_it_on_another_host_counts(p):
    p.volume("base.img")
    base = ("--backing-vol", str(p.hosts.shared / "base.img"), "--backing-vol-format", "raw")
    p.hosts[2].virsh("vol-create-as", "own", "top.qcow2", "4M", "--format", "qcow2", *base)
    p.refused("volume", "delete", "shared", "base.img", "--yes", words=("top.qcow2 on h2 is built on base.img",))
    p.hosts[2].virsh("vol-delete", "top.qcow2", "--pool", "own")
    p.do("volume", "delete", "shared", "base.img", "--yes")


def test_directories_of_their_own_are_not_in_each_others_way(p):
    p.volume("same.img", "own")
    p.hosts[2].virsh("vol-create-as", "own", "same.img", "4M")
    p.define("there", "h2", "own/same.img")
    p.do("volume", "delete", "own", "same.img", "--yes")
    assert (p.hosts[2].work / "own" / "same.img").exists()


def test_a_host_that_cannot_be_asked_may_have_it(p):
    p.volume("asked.img")
    agent = p.cluster.agents["h2"]
    agent.process.terminate()
    agent.process.wait()
    # An agent that was killed is waited for as long as its session may be taken up again, and then it is the same.
    until(lambda: host(p, "h2")["condition"] == "unreachable", 90, "the end of its session", pause=0.3)
    for command in [*p.taking("web1.img"), *p.taking("asked.img")]:
        p.refused(*command, words=("whether machines on h2 use", "revoke it from the cell"))
    assert (p.hosts.shared / "asked.img").exists() and (p.hosts.shared / "web1.img").stat().st_size == 4 << 20
    p.do("volume", "clone", "shared", "asked.img", "copy.img", "--wait")
    p.cluster.restore()
    p.do("volume", "delete", "shared", "asked.img", "--yes")


def test_when_nobody_has_it_any_more_everything_may_be_done_with_it(p):
    p.cell.cli("domain", "undefine", "web1", "--yes")
    p.gone("web1")
    p.do("volume", "resize", "shared", "web1.img", "8MiB")
    p.do("volume", "wipe", "shared", "web1.img", "--yes", "--wait")
    p.do("volume", "convert", "shared", "web1.img", "--format", "qcow2", "--wait")
    p.do("volume", "rename", "shared", "web1.img", "moved.img")
    p.do("domain", "attach-disk", "mine", "shared/moved.img")
    p.do("domain", "undefine", "mine", "--with-volumes", "all", "--yes")
    assert not (p.hosts.shared / "moved.img").exists() and not (p.hosts.shared / "mine.img").exists()


def test_a_network_address_is_on_one_host_only(p):
    p.volume("card.img")
    p.define("card", "h1", "shared/card.img")
    network = p.hosts.work / "net.xml"
    network.write_text("<network><name>wire</name><bridge name='virbr77'/></network>")
    for node in p.hosts.nodes:
        node.virsh("net-define", str(network))
    p.cell.cli("domain", "attach-nic", "there", "--network", "wire", "--mac", MAC)
    p.refused("domain", "attach-nic", "card", "--network", "wire", "--mac", MAC.upper(), words=("there on h2 has a card", MAC))
    assert MAC not in p.hosts[1].virsh("dumpxml", "card")
    p.cell.cli("domain", "detach-nic", "there", MAC, "--yes")
    p.do("domain", "attach-nic", "card", "--network", "wire", "--mac", MAC)
