"""Which commands of the catalog real tests have run on real QEMU. Each is noted when it succeeds; a run of all topics fails for those
that nobody ran, unless it stands here why nobody can.
"""

import json

from .base import ROOT

# Commands that no real guest can show here, each with the reason.
EXCUSED = {
    "cell.revoke": "it takes an agent's right to be in the cell; no hypervisor hears of it, and topics/join.py does it without QEMU",
    "hypervisor.remove-copy": "it takes away what other tools left of a machine that moved; supervisors/tests/moves makes such copies",
}

RAN = set()


def catalog():
    return {c["name"]: c for c in json.loads((ROOT / "actors/contract/catalog.json").read_text())["commands"]}


def on_qemu(uris):
    """Whether what is run on these hypervisors counts."""
    return bool(uris) and all(uri.startswith("qemu:") for uri in uris.values())


def note(*words):
    """A command line that succeeded: the first two words that are no options are noun and verb."""
    noun, verb, *_ = *(w for w in words if not w.startswith("--")), "", ""
    RAN.add(f"{'domain' if noun == 'vm' else noun}.{verb}")


def missing():
    """Commands that nobody ran, and excuses that are none any more."""
    commands = catalog()
    # Agents say these to each other; what they are for is seen by the moves that need them.
    owed = {name for name, command in commands.items() if command["access"] != "node"}
    return sorted(owed - RAN - set(EXCUSED)), sorted(set(EXCUSED) & RAN | set(EXCUSED) - set(commands))
