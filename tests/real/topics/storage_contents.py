"""Contents of volumes over HTTP with tickets, and a pool that is full: on a real libvirtd."""

import base64
import hashlib
import http.client
import os
import secrets
import struct
import subprocess
import time

from harness.base import until
from harness.daemon import EventStream
from harness.hosts import WRITER
from harness.libvirt_host import DOMAIN
from topics import storage
from topics.storage import MIB, PART, clean, ended, image, progress, refused, volumes

# The same host and cell as the other half of the tests of storage.
setup = storage.setup


def ticket(p, verb, volume, *options):
    """A ticket, the secret that goes with it, and how many bytes are there."""
    secret = secrets.token_urlsafe(32)
    proof = base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).rstrip(b"=").decode()
    answer = p.daemon.json("volume", verb, "images", volume, f"--proof={proof}", *options)
    return answer["ticket"]["path"], secret, answer["bytes"]


def request(p, method, path, secret, body=None, **headers):
    """One request; gives back status and body."""
    line = http.client.HTTPConnection("127.0.0.1", p.daemon.http, timeout=60)
    try:
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        line.request(method, path, body=body, headers={"Authorization": f"Bearer {secret}", **headers})
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


def sparse_gigabyte():
    """Pieces of a gigabyte that is mostly nothing."""
    nothing, something = bytes(MIB), os.urandom(MIB)
    return [something if n % 100 == 0 else nothing for n in range(1024)]


def test_a_sparse_gigabyte_is_sent_with_progress_and_stays_sparse(p):
    clean(p)
    pieces = sparse_gigabyte()
    with EventStream(p.daemon, lambda: p.host.probe()) as events:
        mark = events.seen.mark()
        path, secret, there = ticket(p, "upload", "sent.raw")
        assert there == 0
        status, said = request(p, "PUT", path, secret, body=iter(pieces), Content_Length=str(1024 * MIB))
        assert status == 200 and b"sent.raw is there" in said, (status, said)
        finished = events.seen.wait(lambda e: e["topic"] == "task.finished" and e["after"]["command"] == "volume.upload", mark)[1]
        news = progress(events, finished["after"]["id"], mark)
    gaps = [b[0] - a[0] for a, b in zip(news, news[1:])]
    assert 3 < len(news) < 200 and max(gaps) < 1, (len(news), max(gaps))
    file = p.images / "sent.raw"
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()
    assert file.stat().st_size == 1024 * MIB and file.stat().st_blocks * 512 < 64 * MIB
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    path, secret, there = ticket(p, "download", "sent.raw")
    assert there == 1024 * MIB
    status, fetched = request(p, "GET", path, secret)
    assert status == 200 and hashlib.sha256(fetched).hexdigest() == digest
    path, secret, _ = ticket(p, "download", "sent.raw")
    status, part = request(p, "GET", path, secret, Range=f"bytes={MIB - 2}-{MIB + 1}")
    assert (status, part) == (206, pieces[0][-2:] + bytes(2)), status
    return f"{len(news)} news, longest silence {max(gaps) * 1000:.0f} ms"


def begin_sending(p, path, secret, size, first):
    """Sends the head and the first bytes, and leaves the line open."""
    line = http.client.HTTPConnection("127.0.0.1", p.daemon.http, timeout=60)
    line.putrequest("PUT", path)
    line.putheader("Authorization", f"Bearer {secret}")
    line.putheader("Content-Length", str(size))
    line.endheaders()
    line.send(first)
    return line


def running_upload(p):
    found = [t for t in p.daemon.json("task", "list") if t["command"] == "volume.upload" and t["state"] == "running"]
    return found[0]["id"] if found else None


def test_what_was_cut_off_is_gone_on_with_and_what_is_stopped_leaves_nothing(p):
    clean(p)
    content = os.urandom(8 * MIB)
    path, secret, _ = ticket(p, "upload", "cut.raw")
    line = begin_sending(p, path, secret, len(content), content[: 3 * MIB])
    task = until(lambda: running_upload(p), 10, "the task of the upload")
    part = p.images / f"cut.raw{PART}"
    until(lambda: part.stat().st_size == 3 * MIB, 10, "what was sent to arrive")
    line.close()
    assert ended(p, task)["state"] == "failed"
    assert list(volumes(p)) == [f"cut.raw{PART}"] and volumes(p)[f"cut.raw{PART}"]["state"] == "unfinished"
    # The daemon may come and go meanwhile.
    p.daemon.restart()
    path, secret, there = ticket(p, "upload", "cut.raw", "--resume")
    assert there == 3 * MIB
    where = f"bytes {there}-{len(content) - 1}/{len(content)}"
    status, said = request(p, "PUT", path, secret, body=content[there:], Content_Range=where)
    assert status == 200, (status, said)
    assert (p.images / "cut.raw").read_bytes() == content and list(volumes(p)) == ["cut.raw"]

    path, secret, _ = ticket(p, "upload", "stopped.raw")
    line = begin_sending(p, path, secret, len(content), content[: 3 * MIB])
    task = until(lambda: running_upload(p), 10, "the task of the upload")
    other, its_secret, _ = ticket(p, "upload", "stopped.raw")
    status, said = request(p, "PUT", other, its_secret, body=b"somebody else")
    assert status == 409 and b"being written already" in said, (status, said)
    assert "being written" in refused(p, "volume", "delete", "images", f"stopped.raw{PART}", "--yes", code=75)
    began = time.monotonic()
    p.daemon.cli("task", "cancel", task)
    assert ended(p, task)["state"] == "cancelled"
    took = time.monotonic() - began
    line.close()
    assert took < 2, took
    assert list(volumes(p)) == ["cut.raw"] and [f.name for f in p.images.iterdir()] == ["cut.raw"]
    return f"stopped in {took:.2f} s"


def test_a_ticket_is_for_one_request_of_whoever_asked(p):
    clean(p)
    path, secret, _ = ticket(p, "upload", "mine.raw")
    for stolen in ("x" * 43, secret[::-1]):
        assert request(p, "PUT", path, stolen, body=b"theirs")[0] == 404
    assert request(p, "PUT", path, secret, body=b"mine")[0] == 200
    assert request(p, "PUT", path, secret, body=b"again")[0] == 404
    assert (p.images / "mine.raw").read_bytes() == b"mine"
    said = p.daemon.cli("volume", "upload", "images", "mine.raw", "--proof", "a" * 43, check=False)
    assert said.returncode == 73, said.stderr
    for name in ("../up", "a b", "x" + PART):
        assert p.daemon.cli("volume", "upload", "images", name, "--proof", "a" * 43, check=False).returncode == 64
    image(p.work / "bad.qcow2", "-b", "/etc/passwd", "-F", "raw", size="1M")
    path, secret, _ = ticket(p, "upload", "bad.qcow2")
    status, said = request(p, "PUT", path, secret, body=(p.work / "bad.qcow2").read_bytes())
    assert status == 200 and b"cannot be a disk: backing file outside of any pool" in said, said
    assert "outside of any pool" in refused(p, "domain", "define", "victim", "--disk", "images/bad.qcow2", code=64)


# ------------------------------------------------------------ a pool that is full


def inside(p, script):
    """Runs a script where libvirtd and its guests see the host's files."""
    done = subprocess.run(["nsenter", "-t", str(p.host.keeper.pid), "-m", "sh", "-ec", script], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_a_guest_that_found_its_pool_full_is_explained_and_goes_on_without_loss(p):
    clean(p)
    small, image_, serial = p.work / "small", p.work / "small/writer.img", p.work / "full.serial"
    small.mkdir()
    build = f"as --32 -o {p.work}/w.o {WRITER} && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -e start -o {p.work}/w.img {p.work}/w.o"
    subprocess.run(build, shell=True, check=True)
    # Room for a few dozen blocks of the guest, and no more.
    inside(p, f"mount -t tmpfs -o size=1m none {small}; cp {p.work}/w.img {image_}; truncate -s 8M {image_}; head -c 983040 /dev/zero >{small}/filler")
    p.host.virsh("pool-define-as", "small", "dir", "--target", str(small))
    p.host.virsh("pool-start", "small")
    xml = p.work / "full.xml"
    xml.write_text(DOMAIN.format(name="full", disk=image_, serial=serial).replace(">32</memory>", ">64</memory>"))
    p.host.virsh("define", str(xml))
    p.daemon.wait_state("full", "shutoff")
    p.daemon.cli("domain", "start", "full")
    until(lambda: "pool small is full; make room, then resume" in str(p.daemon.json("domain", "info", "full").get("reason")), 60, "the reason")
    assert p.daemon.machine("full")["state"] == "paused"
    said = serial.read_bytes()
    inside(p, f"rm {small}/filler")
    p.daemon.cli("domain", "resume", "full")
    p.daemon.wait_state("full", "running")
    until(lambda: serial.read_bytes().count(b"W") > said.count(b"W") + 8, 30, "the guest to write on")
    assert "full" not in str(p.daemon.json("domain", "info", "full").get("reason"))
    p.daemon.cli("domain", "force-off", "full", "--yes")
    disk = inside(p, f"cat {image_}")
    blocks = [struct.unpack_from("<6I", disk, at) for at in range(512, len(disk), 512) if disk[at : at + 4] in (b"ARCH", b"HCRA")]
    assert [b[3] for b in blocks] == list(range(blocks[0][3], blocks[0][3] + len(blocks))), "a block is missing"
    assert all(b[5] == a[4] for a, b in zip(blocks, blocks[1:])), "a block follows one that is not before it"
    p.host.virsh("undefine", "full")
    p.host.virsh("pool-destroy", "small")
    p.host.virsh("pool-undefine", "small")
    inside(p, f"umount {small}")
    return f"{len(blocks)} blocks, none missing"
