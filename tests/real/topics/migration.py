"""Machines move between three real hosts by our own command, and whatever can break breaks meanwhile.

Each test ends with the same judgement: exactly one copy runs (libvirt, the processes and the guest's own history on its disk
agree), our state equals libvirt's on every host within five seconds, and nothing is left behind. Where the guest itself was
killed, that its end is told instead.

    ARCHIPEL_MIGRATIONS     how many random moves with random breaks, 30 if unset (about seven seconds each)
    ARCHIPEL_SEED           their seed; it is printed
"""

import os
import random
import signal
import time

from harness.base import Late, until
from harness.cluster import Cluster, HostEvents, pick, wait_gap

SLOW = ("--bandwidth-mib", "8")  # 33 MiB then take four seconds, time enough to break something.
NAME = "wanderer"


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.work = work
    p.cluster = Cluster(stack, work)
    p.cell, p.hosts = p.cluster.cell, p.cluster.hosts
    p.cluster.guest(NAME)
    return p


def judge(p, name=NAME, on=None, seconds=5):
    """The judgement of every test. Gives back where it runs. Where the emulator itself aborted, that its end was told, that nobody started
    it, and that it starts where it was."""
    try:
        return judged(p, name, on, seconds)
    except AssertionError as e:
        where = p.cluster.ended_by_qemu(name)
        if where is None:
            raise
        print(f"     the emulator of {name} aborted on {where}: {p.hosts[int(where[1])].last_words(name).strip().splitlines()[-2:]}; {e}", flush=True)
    until(lambda: p.cell.machine(name)["state"] in ("crashed", "shutoff"), 10, f"the end of {name} to be told")
    p.cluster.settled(name, seconds=seconds)
    p.cell.cli("domain", "start", name)
    return judged(p, name, on, seconds)


def judged(p, name, on, seconds):
    where = p.cluster.once(name)
    assert on is None or where == on, f"{name} runs on {where} and not on {on}"
    p.cluster.settled(name, seconds=seconds)
    p.cluster.clean(name)
    return where


def home(p, name=NAME):
    """Everything in order, and the machine running on h1: where each test begins."""
    p.cluster.restore()
    machine = p.cell.machine(name)
    if machine is None or not p.hosts.running_on(name):
        p.cluster.forget(name)
        p.cluster.guest(name)
    elif p.cluster.once(name) != "h1":
        end = p.cluster.ended(p.cluster.move(name, "h1"))
        assert end["progress_state"] == "done", end
    judge(p, name, "h1", 15)


def breaking(p, how, to="h2", options=SLOW):
    """Begins to move the machine, waits until its memory is under way, breaks something, and waits for the end of the task."""
    home(p)
    task = p.cluster.move(NAME, to, *options)
    p.cluster.under_way(NAME)
    how()
    return task


# ---------------------------------------------------------------------------------------- what works


def test_a_running_machine_moves_and_keeps_its_address(p):
    before, events = p.cell.machine(NAME), HostEvents(p.cell)
    mark = events.seen.mark()
    end = p.cluster.ended(p.cluster.move(NAME, "h2"))
    assert end["progress_state"] == "done", end
    judge(p, on="h2")
    after = p.cell.machine(NAME)
    assert (after["jid"], after["host"], after["epoch"]) == (before["jid"], "h2", before["epoch"] + 1), after
    said = [e for e in events.seen.since(mark) if e["entity"] == before["jid"]]
    assert not [e for e in said if e["topic"] in ("domain.stopped", "domain.crashed", "domain.undefined")], said
    events.close()
    return end["message"]


def test_by_every_way(p):
    notes = []
    for options in (("--transport", "tls"), ("--transport", "tunnelled"), ("--parallel", "2"), ("--auto-converge",), ("--bandwidth-mib", "40")):
        to = "h3" if p.cell.machine(NAME)["host"] != "h3" else "h1"
        end = p.cluster.ended(p.cluster.move(NAME, to, *options))
        assert end["progress_state"] == "done", (options, end)
        judge(p, on=to)
        notes.append(f"{' '.join(options).strip('-')}: {end['message']}")
    return "; ".join(notes)


def test_a_machine_that_is_off_changes_its_place(p):
    p.cluster.guest("sleeper", start=False)
    p.cell.cli("domain", "set-vcpus", "sleeper", "--vcpus", "2")
    past = p.cell.json("domain", "history", "sleeper")
    assert [v["what"] for v in past] == ["as it was found", "domain.set-vcpus"], past
    end = p.cluster.ended(p.cluster.move("sleeper", "h3"))
    assert end["progress_state"] == "done", end
    assert p.cell.wait_state("sleeper", "shutoff")["host"] == "h3"
    until(lambda: p.cell.json("domain", "history", "sleeper")[:2] == past, 15, "the past of its definition to follow")
    # libvirt on another host writes the same definition in another order.
    until(lambda: [v["what"] for v in p.cell.json("domain", "history", "sleeper")[2:3]] == ["moved here from h1"], 15, "the version that came of the move")
    p.cluster.settled("sleeper")
    p.cluster.clean("sleeper")
    p.cell.cli("domain", "start", "sleeper")
    judge(p, "sleeper", "h3")
    p.cluster.forget("sleeper")


def test_disks_are_copied_and_the_copy_that_was_given_up_goes(p):
    p.cluster.guest("settler", where="own")
    away = p.hosts[2].work / "own/settler.img"
    task = p.cluster.move("settler", "h2", "--copy-storage", "--bandwidth-mib", "4")
    p.cluster.under_way("settler")
    p.cell.cli("task", "cancel", task)
    assert p.cluster.ended(task)["progress_state"] == "cancelled"
    until(lambda: not away.exists(), 10, "the end of the half-made copy")
    end = p.cluster.ended(p.cluster.move("settler", "h2", "--copy-storage"))
    assert end["progress_state"] == "done", end
    p.hosts.speaks("settler")
    p.hosts.history("settler", away)
    p.cluster.settled("settler")
    p.cluster.clean("settler")
    p.cluster.forget("settler")
    return end["message"]


def test_what_stands_in_the_way_is_told_at_once(p):
    network = p.work / "lan.xml"
    network.write_text("<network><name>lan</name></network>")
    p.hosts[1].virsh("net-define", str(network))
    p.hosts[1].virsh("net-start", "lan")
    mine = p.hosts.guest("stuck", where="own", network="lan")
    p.cell.wait_state("stuck", "shutoff")
    p.cell.cli("domain", "start", "stuck")
    p.hosts.guest("stuck", host=2, kind="tick")
    until(lambda: len([m for m in p.cell.json("domain", "list") if m["name"] == "stuck"]) == 2, 15, "both to be known")
    refusal = p.cluster.move(mine, "h2", check=False)
    assert not isinstance(refusal, str), "it was accepted"
    for word in ("named stuck", "network lan", "stuck.img"):
        assert word in refusal.stderr, f"{word!r} is not in {refusal.stderr!r}"
    for to, why in (("h1", "already"), ("h9", "h9")):
        refusal = p.cluster.move(NAME, to, check=False) if to != "h1" else p.cluster.move(mine, to, check=False)
        assert not isinstance(refusal, str) and why in refusal.stderr, refusal
    p.hosts[2].virsh("undefine", "stuck")
    assert p.hosts.running_on("stuck") == ["h1"]
    p.cluster.forget("stuck")
    p.hosts[1].virsh("net-destroy", "lan")
    p.hosts[1].virsh("net-undefine", "lan")
    return f"exit {refusal.returncode}"


VIRSH = (("--persistent", "--undefinesource"), ())


def strangers(p, host):
    return [s["name"] for h in p.cell.json("hypervisor", "list") if h["name"] == host for s in h.get("strangers") or ()]


def test_virsh_is_noticed_in_both_forms(p):
    """Whatever virsh leaves behind and makes over there: five seconds after it has ended we say what libvirt says on every host."""
    took = []
    for form in VIRSH:
        home(p)
        events = HostEvents(p.cell)
        entity, mark = p.cell.machine(NAME)["jid"], events.seen.mark()
        p.hosts[1].virsh("migrate", NAME, "qemu+tls://h3/system", "--live", "--p2p", "--unsafe", *form)
        began = time.monotonic()
        p.cluster.settled(NAME)
        took.append(time.monotonic() - began)
        assert p.cluster.once(NAME) == "h3", form
        left = [NAME] if "--undefinesource" not in form else []
        until(lambda: (strangers(p, "h1"), strangers(p, "h3")) == (left, []), 5, f"what is left on h1 to be {left}, after {form}")
        # That it stopped here because it went elsewhere is true, and told before anybody can know who has it.
        bad = [e for e in events.seen.since(mark) if e["entity"] == entity and e["topic"] in ("domain.stopped", "domain.crashed", "domain.undefined")
               and e["detail"] != "migrated"]
        assert not bad, (form, bad)
        events.close()
        if "--persistent" not in form:
            # It was over there only for a while. With its end, what virsh had left of it on h1 is the machine again, off.
            p.hosts[3].virsh("destroy", NAME)
            at_home = lambda m: m is not None and (m["host"], m["state"]) == ("h1", "shutoff")
            until(lambda: at_home(p.cell.machine(NAME)), 5, f"its return after {form}")
            assert (strangers(p, "h1"), strangers(p, "h3")) == ([], []), form
    return f"equal after {', '.join(f'{t * 1000:.0f}' for t in took)} ms"


# ---------------------------------------------------------------------------------------- the failure table, A to L


def stayed(p, task, seconds=90):
    end = p.cluster.ended(task, seconds)
    assert end["progress_state"] in ("failed", "cancelled"), end
    p.cluster.restore()
    judge(p, on="h1")
    return end["message"][:110]


def test_a_the_qemu_of_the_target_is_killed(p):
    return stayed(p, breaking(p, lambda: p.hosts[2].kill_qemu(NAME)))


def test_b_the_libvirtd_of_the_target_is_killed(p):
    task = breaking(p, lambda: p.hosts[2].kill_libvirtd())
    # Half of it is on the target, and goes when its daemon is back.
    p.hosts[2].up()
    return stayed(p, task)


def test_c_the_libvirtd_of_the_source_is_killed(p):
    task = breaking(p, lambda: p.hosts[1].kill_libvirtd())
    p.hosts[1].up()
    return stayed(p, task)


def test_d_the_qemu_of_the_source_is_killed(p):
    task = breaking(p, lambda: p.hosts[1].kill_qemu(NAME))
    end = p.cluster.ended(task)
    assert end["progress_state"] == "failed", end
    assert not p.hosts.running_on(NAME), "somebody started it again"
    machine = p.cell.machine(NAME)
    assert machine["state"] in ("crashed", "shutoff") and machine["host"] == "h1", machine
    p.cluster.settled(NAME)
    p.cluster.clean(NAME)
    p.cell.cli("domain", "start", NAME)
    judge(p, on="h1")
    return end["message"][:110]


def test_e_the_cable_of_the_target_is_out_for_good(p):
    task = breaking(p, lambda: p.hosts[2].cut())
    # Nobody can ask the target before it is back, and what is not known starts nothing and undoes nothing.
    until(lambda: "Outgoing" not in p.hosts[1]._virsh("domjobinfo", NAME).stdout, 60, "libvirt to give up")
    assert p.hosts.running_on(NAME) == ["h1"]
    p.hosts[2].mend()
    return stayed(p, task)


def test_f_the_cable_of_the_target_is_out_for_three_seconds(p):
    def flicker():
        p.hosts[2].cut()
        wait_gap(3)
        p.hosts[2].mend()
    end = p.cluster.ended(breaking(p, flicker))
    p.cluster.restore()
    where = judge(p)
    assert where == ("h2" if end["progress_state"] == "done" else "h1"), end
    return f"{end['progress_state']}: {end['message'][:90]}"


def test_i_the_agent_of_the_source_is_killed(p):
    """libvirt moves the machine without us; the agent that comes back finds the move and goes on with it."""
    agent = p.cluster.agents["h1"]
    task = breaking(p, agent.kill)
    agent.start()
    p.cluster.connected()
    end = p.cluster.ended(task)
    where = judge(p, seconds=15)
    assert (where == "h2") == (end["progress_state"] == "done"), (where, end)
    return f"{end['progress_state']}, it runs on {where}"


def test_j_it_is_cancelled(p):
    task = breaking(p, lambda: None)
    p.cell.cli("task", "cancel", task)
    assert p.cluster.ended(task)["progress_state"] == "cancelled"
    judge(p, on="h1")


def test_k_the_libvirtd_of_the_target_stands_still(p):
    task = breaking(p, lambda: p.hosts[2].freeze())
    until(lambda: "Outgoing" not in p.hosts[1]._virsh("domjobinfo", NAME).stdout, 60, "libvirt to give up")
    p.hosts[2].thaw()
    end = p.cluster.ended(task)
    p.cluster.restore()
    where = judge(p)
    assert (where == "h2") == (end["progress_state"] == "done"), (where, end)
    return f"{end['progress_state']}, it runs on {where}"


def test_k2_the_libvirtd_of_the_target_takes_the_last_step_after_the_move_was_given_up(p):
    """It stands still while the memory arrives. Afterwards it defines the machine, finds its disks taken, and ends the guest: nothing may be left."""
    home(p)
    target, source = p.hosts[2].watch(), p.hosts[1].watch()
    there, here = target.mark(), source.mark()
    task = p.cluster.move(NAME, "h2", "--bandwidth-mib", "12")
    p.cluster.under_way(NAME)
    p.hosts[2].freeze()
    source.wait(lambda line: f"'{NAME}'" in line and "Resumed Migrated" in line, here, 60, "the source to go on with its guest")
    assert p.cluster.ended(task)["progress_state"] == "failed"
    p.hosts[2].thaw()
    target.wait(lambda line: f"'{NAME}'" in line and "Stopped" in line, there, 60, "the end of what arrived")
    p.cluster.restore()
    judge(p, on="h1")


def test_l_the_libvirtd_of_the_target_is_killed_at_the_handing_over(p):
    home(p)
    watch = p.hosts[1].watch()
    mark = watch.mark()
    task = p.cluster.move(NAME, "h2")
    watch.wait(lambda line: f"'{NAME}'" in line and "Suspended Migrated" in line, mark, 30, "the handing over")
    p.hosts[2].kill_libvirtd()
    p.hosts[2].up()
    end = p.cluster.ended(task)
    p.cluster.restore()
    where = judge(p)
    assert (where == "h2") == (end["progress_state"] == "done"), (where, end)
    return f"{end['progress_state']}, it runs on {where}"


def post_copy(p, how):
    """Switched to post-copy as soon as that is possible; broken once the guest executes on the target."""
    home(p)
    task = p.cluster.move(NAME, "h2", "--post-copy", "--bandwidth-mib", "4")
    p.cluster.under_way(NAME)
    until(lambda: p.hosts[2].states().get(NAME, ("",))[0] == "running", 40, "post-copy to begin", pause=0.02)
    how()
    return task


def test_g_the_cable_is_out_for_a_while_in_post_copy(p):
    def out():
        p.hosts[2].cut()
        wait_gap(8)
        p.hosts[2].mend()
    end = p.cluster.ended(post_copy(p, out), 70)
    p.cluster.restore()
    assert end["progress_state"] == "done", end
    judge(p, on="h2", seconds=15)
    return end["message"][:110]


def is_split(node):
    return node.states().get(NAME, ("", ""))[1] == "post-copy failed"


def said(p, task):
    return (p.cluster.task(task) or {}).get("message", "")


def recovered(p, task, mark):
    """The rest of the memory was sent after the break, once, and the guest has lost nothing. Gives back what was seen at the target."""
    end = p.cluster.ended(task)
    assert end["progress_state"] == "done", end
    assert "stood still" not in end["message"], f"nobody knows how long: {end}"
    seen = [line.split(": ")[-1] for line in p.target.since(mark) if f"'{NAME}'" in line and "lifecycle" in line]
    assert seen.count("Resumed Post-copy") == 2 and seen[-1] == "Resumed Migrated", seen
    judge(p, on="h2", seconds=15)
    return ", ".join(seen)


def test_g2_both_ends_lose_the_connection_in_post_copy(p):
    """The cable is out until both kernels have given up: nothing of it heals by itself, and nothing happens before the target was asked."""
    p.target = p.hosts[2].watch()
    mark = p.target.mark()

    def out():
        p.hosts[2].cut()
        for node in p.hosts[1], p.hosts[2]:
            node.lose_transfers()
        for node in p.hosts[1], p.hosts[2]:
            until(lambda: is_split(node), 30, f"libvirt on {node.name} to notice")
        assert p.hosts[1].states()[NAME][0] == "paused" and p.hosts[2].states()[NAME][0] == "running"
        p.hosts[2].mend()
    return recovered(p, post_copy(p, out), mark)


def test_g3_only_the_source_notices_that_the_connection_is_lost_in_post_copy(p):
    """The target waits for ever, as its end of the connection is silent. People are told what to do about it, and then it goes on."""
    p.target = p.hosts[2].watch()
    mark = p.target.mark()

    def out():
        # With all the memory that it uses over there, it asks the source for nothing, and nothing tells the target that nobody is there.
        before = p.hosts.spoken(NAME)
        until(lambda: p.hosts.spoken(NAME) > before + 8, 10, "the guest to run on")
        p.hosts[2].cut()
        p.hosts[1].lose_transfers()
    task = post_copy(p, out)
    # Not only QEMU but libvirt too has lost the other side by then.
    until(lambda: "asking h2" in said(p, task) or "waiting" in said(p, task), 30, "libvirt to give up")
    assert is_split(p.hosts[1])
    p.hosts[2].mend()
    until(lambda: "end the dead connection at the target" in said(p, task), 60, "what to do to be told")
    assert (p.hosts[1].states()[NAME][0], p.hosts[2].states()[NAME]) == ("paused", ("running", "post-copy"))
    p.hosts[2].lose_transfers()
    return recovered(p, task, mark)


def test_h_the_qemu_of_the_target_is_killed_in_post_copy(p):
    """Half of the memory is gone: the guest is lost, that is told, and nothing was started by itself."""
    task = post_copy(p, lambda: p.hosts[2].kill_qemu(NAME))
    end = p.cluster.ended(task)
    assert end["progress_state"] == "failed", end
    assert not p.hosts.running_on(NAME), "somebody started it again"
    p.cell.cli("domain", "force-off", NAME, "--yes")
    p.cell.wait_state(NAME, "shutoff")
    p.cell.cli("domain", "start", NAME)
    try:
        judge(p)
    finally:
        p.cluster.forget(NAME)  # What this leaves behind is not the next test's affair.
    return end["message"][:110]


# ---------------------------------------------------------------------------------------- by chance

BREAKS = ["nothing", "qemu of the target", "qemu of the source", "libvirtd of the target", "libvirtd of the source", "cable", "flicker", "agent of the source",
          "agent of the target", "cancel", "freeze"]


def by_chance(p, dice, name):
    """One random move with one random break; gives back what came of it."""
    source = p.cluster.once(name)
    to = pick(dice, [n.name for n in p.hosts.nodes if n.name != source])
    here, there = p.hosts[int(source[1])], p.hosts[int(to[1])]
    what, delay, bandwidth = pick(dice, BREAKS), dice.uniform(0, 2.5), pick(dice, ["6", "12", "25"])
    task = p.cluster.move(name, to, "--bandwidth-mib", bandwidth)
    try:
        p.cluster.under_way(name, 2.5)
    except Late:
        pass  # It was faster than a look at it.
    wait_gap(delay)
    if what == "qemu of the target":
        # Only as long as it does not execute there: else it would be the guest itself that is killed.
        if there.states().get(name, ("absent",))[0] == "paused" and here.states().get(name, ("",))[0] == "running":
            there.kill_qemu(name)
    elif what == "qemu of the source":
        here.kill_qemu(name)
    elif what == "libvirtd of the target":
        there.kill_libvirtd()
    elif what == "libvirtd of the source":
        here.kill_libvirtd()
    elif what == "cable":
        (there if here.number == 1 else here).cut()
        wait_gap(9)
    elif what == "flicker":
        (there if here.number == 1 else here).cut()
        wait_gap(dice.uniform(0.5, 4))
    elif what == "agent of the source":
        p.cluster.agents[source].kill()
    elif what == "agent of the target":
        p.cluster.agents[to].kill()
    elif what == "cancel":
        p.cell.cli("task", "cancel", task, check=False)
    elif what == "freeze":
        there.freeze()
        wait_gap(dice.uniform(1, 9))
    p.cluster.restore()
    # An agent that was killed when its move had just ended knows no task of it any more; then the machine is at its target.
    forgotten = lambda: what == "agent of the source" and p.cluster.arrived(name, source, to)  # noqa: E731
    end = p.cluster.ended(task, 70, forgotten) or {"progress_state": "done"}
    if what == "qemu of the source" and not p.hosts.running_on(name):
        # Its own death: it is told, nobody started it, and it starts where it was.
        assert end["progress_state"] != "done" or not here.states().get(name), end
        p.cluster.settled(name, seconds=15)
        assert p.cell.machine(name)["state"] in ("crashed", "shutoff")
        p.cell.cli("domain", "start", name)
        judge(p, name, seconds=15)
        return what, "died"
    where = judge(p, name, seconds=15)
    assert (where == to) == (end["progress_state"] == "done"), f"{what}: the task says {end}, and it runs on {where}"
    return what, end["progress_state"]


def test_random_moves_with_random_breaks(p):
    seed, count = int(os.environ.get("ARCHIPEL_SEED") or time.time_ns() % 1_000_000), int(os.environ.get("ARCHIPEL_MIGRATIONS") or 30)
    dice, counted = random.Random(seed), {}
    print(f"     {count} random moves: seed {seed} (ARCHIPEL_SEED={seed} repeats them)", flush=True)
    home(p)
    for number in range(1, count + 1):
        signal.alarm(150)  # The suite's limit is for one test; here it is for one move.
        try:
            outcome = by_chance(p, dice, NAME)
        except Exception as e:
            raise AssertionError(f"seed {seed}, move {number}: {e}") from e
        counted[outcome] = counted.get(outcome, 0) + 1
    shown = ", ".join(f"{what} {state} {n}" for (what, state), n in sorted(counted.items()))
    runs, blocks = p.hosts.history(NAME)
    return f"seed {seed}, {count} moves: {shown}; {blocks} blocks of {runs} runs, none out of order"
