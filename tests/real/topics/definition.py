"""The definition of a machine on a real libvirt: raw XML for those who may, versions with who and when, the difference, and the way
back; and the corpus of definitions, each edited in one place by a real QEMU driver.
"""

import re

from harness.daemon import CELL, Daemon
from harness.libvirt_host import LibvirtHost
from topics import bridge

RAW = f"raw@{CELL}"


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.daemon = Daemon(work, {"alpha": p.host.uri})
    p.daemon.account("add", RAW, "--role", "admin-raw")
    stack.enter_context(p.daemon)
    p.id = p.host.define("web1")
    p.daemon.wait_state("web1", "shutoff")
    p.pool = p.host.work / "bridge-images"
    p.pool.mkdir()
    p.script = p.host.work / "no-restart"
    return p


def text(p):
    return p.host.virsh("dumpxml", "--inactive", "--security-info", "web1")


def replace(p, xml, jid=RAW, check=True):
    return p.daemon.cli("--json", "domain", "edit-xml", "web1", "--xml", xml, jid=jid, check=check)


def refused(p, words, xml, jid=RAW, code=64):
    before = text(p)
    done = replace(p, xml, jid, check=False)
    assert done.returncode == code and words in done.stderr, f"{done.returncode}: {done.stderr[:600]}"
    assert text(p) == before, "a definition that was refused changed something"


def test_raw_xml_is_validated_and_the_difference_answered(p):
    xml = text(p)
    refused(p, "needs admin-raw", xml, jid=f"admin@{CELL}", code=77)
    refused(p, "must stay as they are", xml.replace(p.id, "11111111-2222-4333-8444-555555555555"))
    refused(p, "must stay as they are", xml.replace("<name>web1<", "<name>web9<"))
    refused(p, "cannot be read", "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + xml.replace("web1</name>", "web1&x;</name>"))
    refused(p, "cannot be read", "<domain>")
    refused(p, "schema", xml.replace("</devices>", "<nonsense/></devices>"))
    done = replace(p, xml.replace("<on_crash>destroy", "<on_crash>restart"))
    assert "-  <on_crash>destroy</on_crash>" in done.stdout and "+  <on_crash>restart</on_crash>" in done.stdout, done.stdout
    assert "<on_crash>restart" in text(p)


def test_versions_say_who_changed_what_and_lead_back(p):
    p.daemon.cli("domain", "set-vcpus", "web1", "--vcpus", "2")
    changed = text(p).replace("<vcpu placement='static'>2<", "<vcpu placement='static'>3<")
    file = p.host.work / "foreign.xml"
    file.write_text(changed)
    p.host.virsh("define", str(file))
    p.daemon.cli("domain", "set-lifecycle", "web1", "--on-reboot", "destroy")
    versions = p.daemon.json("domain", "history", "web1")
    told = [(v["what"], v.get("by")) for v in versions][-3:]
    wanted = [("domain.set-vcpus", f"admin@{CELL}"), ("changed by somebody else", None), ("domain.set-lifecycle", f"admin@{CELL}")]
    assert told == wanted, versions
    diff = p.daemon.json("domain", "diff", "web1")["text"]
    assert "-  <on_reboot>restart</on_reboot>" in diff and "+  <on_reboot>destroy</on_reboot>" in diff, diff
    before = versions[-3]["version"]
    done = p.daemon.json("domain", "revert", "web1", "--version", str(before))
    assert done["applies"] == "next-boot" and "<vcpu placement='static'>2<" in text(p) and "<on_reboot>restart" in text(p), done
    assert p.daemon.json("domain", "history", "web1")[-1]["what"] == f"domain.revert to {before}"
    assert p.daemon.json("domain", "revert", "web1", "--version", str(before))["applies"] == "nothing"
    p.daemon.restart()
    assert len(p.daemon.json("domain", "history", "web1")) == len(versions) + 1


def test_one_edit_of_each_definition_of_the_corpus_changes_one_field(p):
    return bridge.suite(p, "corpus")
