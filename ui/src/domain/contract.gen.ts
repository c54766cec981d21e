// Generated from actors/contract/catalog.json by `npm run gen`. Do not edit.
import type { Catalog } from './catalog';

/** The arguments of every command. */
export interface CommandArguments {
  'cell.invite': { lifetime?: number; name?: string };
  'cell.members': Record<string, never>;
  'cell.revoke': { name: string };
  'domain.autostart': { enabled?: boolean };
  'domain.define': { name: string; disk?: string; graphics?: 'none' | 'vnc'; memory?: number | string; network?: string; note?: string; vcpus?: number };
  'domain.force-off': Record<string, never>;
  'domain.info': Record<string, never>;
  'domain.list': { host?: string; name?: string; state?: string };
  'domain.migrate': { auto_converge?: boolean; bandwidth_mib?: number; copy_storage?: boolean; parallel?: number; post_copy?: boolean; to?: string; transport?: 'direct' | 'tls' | 'tunnelled'; trust_storage?: boolean };
  'domain.migrate-check': { copy_storage?: boolean; to?: string; trust_storage?: boolean };
  'domain.note': { text?: string };
  'domain.park': Record<string, never>;
  'domain.parked': Record<string, never>;
  'domain.pause': Record<string, never>;
  'domain.reboot': Record<string, never>;
  'domain.rename': { to: string };
  'domain.reset': Record<string, never>;
  'domain.resume': Record<string, never>;
  'domain.shutdown': { timeout?: number };
  'domain.start': { paused?: boolean };
  'domain.undefine': Record<string, never>;
  'domain.unpark': { machine: string };
  'domain.xml': { inactive?: boolean };
  'hypervisor.drain': { at_a_time?: number; copy_storage?: boolean; include_off?: boolean; only?: string; to?: string; trust_storage?: boolean };
  'hypervisor.drain-plan': { copy_storage?: boolean; only?: string; to?: string; trust_storage?: boolean };
  'hypervisor.info': Record<string, never>;
  'hypervisor.list': { name?: string };
  'hypervisor.receive': { domain: string; epoch: number; saga: string; autostart?: boolean; definition?: string; operations?: string };
  'hypervisor.release': { domain: string; epoch: number; saga: string };
  'hypervisor.reserve': { epoch: number; on_behalf_of: string; passport: string; way: string; saga?: string };
  'hypervisor.send-back': { domain: string; on_behalf_of: string; way: string };
  'hypervisor.standing': { domain: string };
  'hypervisor.undrain': { bring_back?: boolean };
  'hypervisor.unreserve': { saga: string };
  'hypervisor.yield': { domain: string; saga: string };
  'network.autostart': { enabled?: boolean };
  'network.info': Record<string, never>;
  'network.list': { host?: string; name?: string };
  'network.start': Record<string, never>;
  'network.stop': Record<string, never>;
  'storage-pool.autostart': { enabled?: boolean };
  'storage-pool.info': Record<string, never>;
  'storage-pool.list': { host?: string; name?: string };
  'storage-pool.refresh': Record<string, never>;
  'storage-pool.start': Record<string, never>;
  'storage-pool.stop': Record<string, never>;
  'task.cancel': Record<string, never>;
  'task.list': { host?: string; state?: string };
  'task.show': Record<string, never>;
  'task.wait': { timeout?: number };
  'volume.info': { volume: string };
  'volume.list': Record<string, never>;
}

/** The name of a command. */
export type CommandName = keyof CommandArguments;

/** Everything that can be asked and everything that is told. */
export const catalog: Catalog = {
 "commands": [
  {
   "name": "cell.invite",
   "noun": "cell",
   "verb": "invite",
   "title": "Invite a host into the cell",
   "description": "Invite a host into the cell. The answer is a token that works once and the line to run on that host; whoever has the token can join, so hand it on as you would a password.",
   "effect": "change",
   "access": "admin",
   "target": "cell",
   "arguments": [
    {
     "name": "lifetime",
     "kind": "integer",
     "required": false,
     "default": 30,
     "minimum": 1,
     "maximum": 1440,
     "description": "For how many minutes the token holds."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "The hypervisor the token is for. With it, a host that is away, or that was lost with its disk, is replaced; without it any new name may join."
    }
   ],
   "refused": {}
  },
  {
   "name": "cell.members",
   "noun": "cell",
   "verb": "members",
   "title": "List the hosts of the cell",
   "description": "List the hosts of the cell. Each with the time it joined, the end of its certificate, and what is wrong with it.",
   "effect": "read",
   "access": "viewer",
   "target": "cell",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "cell.revoke",
   "noun": "cell",
   "verb": "revoke",
   "title": "Take a host's certificate back",
   "description": "Take a host's certificate back. Its link is cut at once, and it comes in again only with a new token; its guests run on.",
   "effect": "destroy",
   "access": "admin",
   "target": "cell",
   "arguments": [
    {
     "name": "name",
     "kind": "text",
     "required": true,
     "description": "The name of its hypervisor."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.autostart",
   "noun": "domain",
   "verb": "autostart",
   "title": "Choose whether a virtual machine starts with its host",
   "description": "Choose whether a virtual machine starts with its host.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "enabled",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether it does."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.define",
   "noun": "domain",
   "verb": "define",
   "title": "Define a new virtual machine on a hypervisor",
   "description": "Define a new virtual machine on a hypervisor; it stays off.",
   "effect": "change",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "name",
     "kind": "text",
     "required": true,
     "description": "Its name: letters, digits and . _ + - (at most 64)."
    },
    {
     "name": "disk",
     "kind": "text",
     "required": false,
     "description": "Its disk as POOL/VOLUME; without one it has no disk."
    },
    {
     "name": "graphics",
     "kind": "choice",
     "required": false,
     "default": "vnc",
     "choices": [
      "none",
      "vnc"
     ],
     "description": "Its screen."
    },
    {
     "name": "memory",
     "kind": "bytes",
     "required": false,
     "default": 1073741824,
     "minimum": 0,
     "description": "Its memory, for example 512MiB."
    },
    {
     "name": "network",
     "kind": "text",
     "required": false,
     "description": "The network its card is on; without one it has no card."
    },
    {
     "name": "note",
     "kind": "text",
     "required": false,
     "description": "What to remember about it."
    },
    {
     "name": "vcpus",
     "kind": "integer",
     "required": false,
     "default": 1,
     "minimum": 1,
     "maximum": 512,
     "description": "Its virtual CPUs."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.force-off",
   "noun": "domain",
   "verb": "force-off",
   "title": "Cut the power",
   "description": "Cut the power. The guest cannot save anything; nothing is deleted.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off",
    "shutoff": "is off"
   }
  },
  {
   "name": "domain.info",
   "noun": "domain",
   "verb": "info",
   "title": "Show everything known about a virtual machine",
   "description": "Show everything known about a virtual machine.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "domain.list",
   "noun": "domain",
   "verb": "list",
   "title": "List the virtual machines of the whole cell, or of one host, or those with one name",
   "description": "List the virtual machines of the whole cell, or of one host, or those with one name.",
   "effect": "read",
   "access": "viewer",
   "target": "cell",
   "arguments": [
    {
     "name": "host",
     "kind": "text",
     "required": false,
     "description": "Only those on this hypervisor."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Only those with this name or UUID."
    },
    {
     "name": "state",
     "kind": "text",
     "required": false,
     "description": "Only those in this state, for example running."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.migrate",
   "noun": "domain",
   "verb": "migrate",
   "title": "Move a virtual machine to another host",
   "description": "Move a virtual machine to another host. A running one goes on running; one that is off only changes its place.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "auto_converge",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Slow the guest down if its memory changes faster than it travels."
    },
    {
     "name": "bandwidth_mib",
     "kind": "integer",
     "required": false,
     "minimum": 1,
     "maximum": 1000000,
     "description": "The most it may send, in MiB a second."
    },
    {
     "name": "copy_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Copy its disks as well, to pools of the same path."
    },
    {
     "name": "parallel",
     "kind": "integer",
     "required": false,
     "minimum": 1,
     "maximum": 64,
     "description": "Over how many connections at once."
    },
    {
     "name": "post_copy",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Switch to post-copy after the first pass. A break of the network then may cost the guest."
    },
    {
     "name": "to",
     "kind": "text",
     "required": false,
     "description": "The hypervisor to move it to; without one the best is chosen, and the task says why."
    },
    {
     "name": "transport",
     "kind": "choice",
     "required": false,
     "default": "direct",
     "choices": [
      "direct",
      "tls",
      "tunnelled"
     ],
     "description": "How the memory travels."
    },
    {
     "name": "trust_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Believe that its disks are shared although libvirt cannot tell."
    }
   ],
   "refused": {
    "pmsuspended": "sleeps and cannot travel; resume it first",
    "shutdown": "is going down; move it when it is off"
   }
  },
  {
   "name": "domain.migrate-check",
   "noun": "domain",
   "verb": "migrate-check",
   "title": "Say what would stand in the way of moving a virtual machine, for one host or for all, best first",
   "description": "Say what would stand in the way of moving a virtual machine, for one host or for all, best first. Nothing is moved.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [
    {
     "name": "copy_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "As if its disks were copied."
    },
    {
     "name": "to",
     "kind": "text",
     "required": false,
     "description": "Only this hypervisor."
    },
    {
     "name": "trust_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "As if its disks were known to be shared."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.note",
   "noun": "domain",
   "verb": "note",
   "title": "Remember something about a virtual machine",
   "description": "Remember something about a virtual machine; an empty text forgets it.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "text",
     "kind": "text",
     "required": false,
     "default": "",
     "description": "The text, at most 4096 characters."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.park",
   "noun": "domain",
   "verb": "park",
   "title": "Take a virtual machine that is off from its host and keep its definition in the cell",
   "description": "Take a virtual machine that is off from its host and keep its definition in the cell. Its disks stay.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "paused": "is not off; shut it down first",
    "pmsuspended": "is not off; shut it down first",
    "running": "is not off; shut it down first",
    "shutdown": "is not off; shut it down first"
   }
  },
  {
   "name": "domain.parked",
   "noun": "domain",
   "verb": "parked",
   "title": "List the virtual machines that are parked",
   "description": "List the virtual machines that are parked.",
   "effect": "read",
   "access": "viewer",
   "target": "cell",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "domain.pause",
   "noun": "domain",
   "verb": "pause",
   "title": "Stop the virtual CPUs",
   "description": "Stop the virtual CPUs; memory stays.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off",
    "paused": "is paused already",
    "pmsuspended": "sleeps",
    "shutdown": "is going down",
    "shutoff": "is off"
   }
  },
  {
   "name": "domain.reboot",
   "noun": "domain",
   "verb": "reboot",
   "title": "Ask the guest to reboot",
   "description": "Ask the guest to reboot.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off",
    "paused": "is paused and cannot hear it; resume it first",
    "pmsuspended": "sleeps and cannot hear it; resume it first",
    "shutdown": "is going down already",
    "shutoff": "is off"
   }
  },
  {
   "name": "domain.rename",
   "noun": "domain",
   "verb": "rename",
   "title": "Give a virtual machine that is off another name",
   "description": "Give a virtual machine that is off another name. Its address stays.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "to",
     "kind": "text",
     "required": true,
     "description": "The new name: letters, digits and . _ + - (at most 64)."
    }
   ],
   "refused": {
    "paused": "can only be renamed while it is off",
    "pmsuspended": "can only be renamed while it is off",
    "running": "can only be renamed while it is off",
    "shutdown": "can only be renamed while it is off"
   }
  },
  {
   "name": "domain.reset",
   "noun": "domain",
   "verb": "reset",
   "title": "Press the reset button",
   "description": "Press the reset button. The guest cannot save anything.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off",
    "shutoff": "is off"
   }
  },
  {
   "name": "domain.resume",
   "noun": "domain",
   "verb": "resume",
   "title": "Let the virtual CPUs go on, or wake a sleeping guest",
   "description": "Let the virtual CPUs go on, or wake a sleeping guest.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off; start it instead",
    "running": "is running already",
    "shutdown": "is going down",
    "shutoff": "is off; start it instead"
   }
  },
  {
   "name": "domain.shutdown",
   "noun": "domain",
   "verb": "shutdown",
   "title": "Ask the guest to power off, and follow it until it has",
   "description": "Ask the guest to power off, and follow it until it has. Nothing is forced.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "timeout",
     "kind": "integer",
     "required": false,
     "default": 120,
     "minimum": 1,
     "maximum": 3600,
     "description": "How many seconds to wait before saying that the guest did not listen."
    }
   ],
   "refused": {
    "crashed": "is off",
    "paused": "is paused and cannot hear it; resume it first",
    "pmsuspended": "sleeps and cannot hear it; resume it first",
    "shutdown": "is going down already",
    "shutoff": "is off"
   }
  },
  {
   "name": "domain.start",
   "noun": "domain",
   "verb": "start",
   "title": "Start a virtual machine that is off",
   "description": "Start a virtual machine that is off.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "paused",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Leave it paused before its first instruction."
    }
   ],
   "refused": {
    "paused": "is paused; resume it instead",
    "pmsuspended": "sleeps; resume it instead",
    "running": "is running already",
    "shutdown": "is still going down; wait until it is off"
   }
  },
  {
   "name": "domain.undefine",
   "noun": "domain",
   "verb": "undefine",
   "title": "Forget the definition of a virtual machine that is off",
   "description": "Forget the definition of a virtual machine that is off. Its disks stay.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "paused": "is not off; shut it down first",
    "pmsuspended": "is not off; shut it down first",
    "running": "is not off; shut it down first",
    "shutdown": "is not off; shut it down first"
   }
  },
  {
   "name": "domain.unpark",
   "noun": "domain",
   "verb": "unpark",
   "title": "Put a parked virtual machine on this hypervisor",
   "description": "Put a parked virtual machine on this hypervisor; it stays off.",
   "effect": "change",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "machine",
     "kind": "text",
     "required": true,
     "description": "Its UUID or name."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.xml",
   "noun": "domain",
   "verb": "xml",
   "title": "Show the definition of a virtual machine in libvirt's XML",
   "description": "Show the definition of a virtual machine in libvirt's XML.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [
    {
     "name": "inactive",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "The definition for the next start instead of the running one."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.drain",
   "noun": "hypervisor",
   "verb": "drain",
   "title": "Empty a host for maintenance: plan, then move every machine away, some at a time",
   "description": "Empty a host for maintenance: plan, then move every machine away, some at a time. Nothing new comes here until it is undone.",
   "effect": "change",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "at_a_time",
     "kind": "integer",
     "required": false,
     "default": 2,
     "minimum": 1,
     "maximum": 32,
     "description": "How many at a time."
    },
    {
     "name": "copy_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Copy their disks as well."
    },
    {
     "name": "include_off",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Move machines that are off as well."
    },
    {
     "name": "only",
     "kind": "text",
     "required": false,
     "description": "Only these machines (names or UUIDs, separated by commas, or `#tag` for those whose note has that word). The host is not closed to new ones then."
    },
    {
     "name": "to",
     "kind": "text",
     "required": false,
     "description": "Only to these hypervisors, separated by commas; without them the best is chosen for each machine."
    },
    {
     "name": "trust_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Believe that their disks are shared."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.drain-plan",
   "noun": "hypervisor",
   "verb": "drain-plan",
   "title": "Show where every machine of a host would go if it were emptied now",
   "description": "Show where every machine of a host would go if it were emptied now. Nothing is moved.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "copy_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "As if their disks were copied."
    },
    {
     "name": "only",
     "kind": "text",
     "required": false,
     "description": "Only these machines, as for `hypervisor.drain`."
    },
    {
     "name": "to",
     "kind": "text",
     "required": false,
     "description": "Only to these hypervisors, separated by commas."
    },
    {
     "name": "trust_storage",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "As if their disks were known to be shared."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.info",
   "noun": "hypervisor",
   "verb": "info",
   "title": "Show everything known about a hypervisor, restarts of its actors included",
   "description": "Show everything known about a hypervisor, restarts of its actors included.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "hypervisor.list",
   "noun": "hypervisor",
   "verb": "list",
   "title": "List the hypervisors of the cell",
   "description": "List the hypervisors of the cell.",
   "effect": "read",
   "access": "viewer",
   "target": "cell",
   "arguments": [
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Only the one with this name."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.receive",
   "noun": "hypervisor",
   "verb": "receive",
   "title": "From the source: it is yours now, claim it",
   "description": "From the source: it is yours now, claim it. Sent when libvirt said that the transfer is over, or, for a machine that is off, with its definition.",
   "effect": "change",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "domain",
     "kind": "text",
     "required": true,
     "description": "The machine."
    },
    {
     "name": "epoch",
     "kind": "integer",
     "required": true,
     "minimum": 0,
     "description": "The epoch it had at the source."
    },
    {
     "name": "saga",
     "kind": "text",
     "required": true,
     "description": "The move."
    },
    {
     "name": "autostart",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Whether it shall start with its new host."
    },
    {
     "name": "definition",
     "kind": "text",
     "required": false,
     "description": "The definition of a machine that is off: it is defined here before it is claimed."
    },
    {
     "name": "operations",
     "kind": "text",
     "required": false,
     "description": "What was done on it lately, so that it is not done twice: a JSON array of operations with their ends."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.release",
   "noun": "hypervisor",
   "verb": "release",
   "title": "From the target: I have claimed it",
   "description": "From the target: I have claimed it; release what is left of it.",
   "effect": "change",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "domain",
     "kind": "text",
     "required": true,
     "description": "The machine."
    },
    {
     "name": "epoch",
     "kind": "integer",
     "required": true,
     "minimum": 0,
     "description": "The epoch it has at the target."
    },
    {
     "name": "saga",
     "kind": "text",
     "required": true,
     "description": "The move."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.reserve",
   "noun": "hypervisor",
   "verb": "reserve",
   "title": "From the source: hold room for this machine, or say everything that stands in the way",
   "description": "From the source: hold room for this machine, or say everything that stands in the way.",
   "effect": "change",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "epoch",
     "kind": "integer",
     "required": true,
     "minimum": 0,
     "description": "The epoch the machine has now."
    },
    {
     "name": "on_behalf_of",
     "kind": "text",
     "required": true,
     "description": "Who asked for the move: the bare JID, for the record and to be checked by the exchange."
    },
    {
     "name": "passport",
     "kind": "text",
     "required": true,
     "description": "What it needs: a [`super::Passport`] as JSON."
    },
    {
     "name": "way",
     "kind": "text",
     "required": true,
     "description": "How it shall travel: a [`super::Way`] as JSON."
    },
    {
     "name": "saga",
     "kind": "text",
     "required": false,
     "description": "The move; absent when only what stands in the way is asked, and nothing is held."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.send-back",
   "noun": "hypervisor",
   "verb": "send-back",
   "title": "From a host that was emptied and is open again: move this machine of yours to me",
   "description": "From a host that was emptied and is open again: move this machine of yours to me.",
   "effect": "change",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "domain",
     "kind": "text",
     "required": true,
     "description": "The machine."
    },
    {
     "name": "on_behalf_of",
     "kind": "text",
     "required": true,
     "description": "Who asked for it: the bare JID, for the record."
    },
    {
     "name": "way",
     "kind": "text",
     "required": true,
     "description": "How it shall travel: a [`super::Way`] as JSON."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.standing",
   "noun": "hypervisor",
   "verb": "standing",
   "title": "From any host: how does this machine stand with your libvirt, read freshly",
   "description": "From any host: how does this machine stand with your libvirt, read freshly.",
   "effect": "read",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "domain",
     "kind": "text",
     "required": true,
     "description": "The machine."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.undrain",
   "noun": "hypervisor",
   "verb": "undrain",
   "title": "Open a host again that was emptied, and bring back what was moved away from it",
   "description": "Open a host again that was emptied, and bring back what was moved away from it.",
   "effect": "change",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "bring_back",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Bring the machines back; without it the host is only opened."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.unreserve",
   "noun": "hypervisor",
   "verb": "unreserve",
   "title": "From the source: the move is given up; let the place go",
   "description": "From the source: the move is given up; let the place go. Nothing of the machine is touched.",
   "effect": "change",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "saga",
     "kind": "text",
     "required": true,
     "description": "The move."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.yield",
   "noun": "hypervisor",
   "verb": "yield",
   "title": "From a host that has this machine running without having asked for it, because somebody moved it with other tools: give it up, if it is not with you any more",
   "description": "From a host that has this machine running without having asked for it, because somebody moved it with other tools: give it up, if it is not with you any more.",
   "effect": "change",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "domain",
     "kind": "text",
     "required": true,
     "description": "The machine."
    },
    {
     "name": "saga",
     "kind": "text",
     "required": true,
     "description": "The move under which the new host will claim it."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.autostart",
   "noun": "network",
   "verb": "autostart",
   "title": "Choose whether a network starts with its host",
   "description": "Choose whether a network starts with its host.",
   "effect": "change",
   "access": "admin",
   "target": "network",
   "arguments": [
    {
     "name": "enabled",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether it does."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.info",
   "noun": "network",
   "verb": "info",
   "title": "Show everything known about a network",
   "description": "Show everything known about a network.",
   "effect": "read",
   "access": "viewer",
   "target": "network",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "network.list",
   "noun": "network",
   "verb": "list",
   "title": "List the virtual networks of the cell, or of one host",
   "description": "List the virtual networks of the cell, or of one host.",
   "effect": "read",
   "access": "viewer",
   "target": "cell",
   "arguments": [
    {
     "name": "host",
     "kind": "text",
     "required": false,
     "description": "Only those on this hypervisor."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Only those with this name or UUID."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.start",
   "noun": "network",
   "verb": "start",
   "title": "Start a network",
   "description": "Start a network.",
   "effect": "change",
   "access": "admin",
   "target": "network",
   "arguments": [],
   "refused": {
    "active": "is active already"
   }
  },
  {
   "name": "network.stop",
   "noun": "network",
   "verb": "stop",
   "title": "Stop a network",
   "description": "Stop a network. Machines attached to it lose their connection.",
   "effect": "destroy",
   "access": "admin",
   "target": "network",
   "arguments": [],
   "refused": {
    "inactive": "is not active"
   }
  },
  {
   "name": "storage-pool.autostart",
   "noun": "storage-pool",
   "verb": "autostart",
   "title": "Choose whether a storage pool starts with its host",
   "description": "Choose whether a storage pool starts with its host.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "enabled",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether it does."
    }
   ],
   "refused": {}
  },
  {
   "name": "storage-pool.info",
   "noun": "storage-pool",
   "verb": "info",
   "title": "Show everything known about a storage pool",
   "description": "Show everything known about a storage pool.",
   "effect": "read",
   "access": "viewer",
   "target": "storage-pool",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "storage-pool.list",
   "noun": "storage-pool",
   "verb": "list",
   "title": "List the storage pools of the cell, or of one host",
   "description": "List the storage pools of the cell, or of one host.",
   "effect": "read",
   "access": "viewer",
   "target": "cell",
   "arguments": [
    {
     "name": "host",
     "kind": "text",
     "required": false,
     "description": "Only those on this hypervisor."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Only those with this name or UUID."
    }
   ],
   "refused": {}
  },
  {
   "name": "storage-pool.refresh",
   "noun": "storage-pool",
   "verb": "refresh",
   "title": "List the volumes of a storage pool again, as files may have changed behind libvirt's back",
   "description": "List the volumes of a storage pool again, as files may have changed behind libvirt's back.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "storage-pool.start",
   "noun": "storage-pool",
   "verb": "start",
   "title": "Start a storage pool",
   "description": "Start a storage pool.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [],
   "refused": {
    "building": "is started already",
    "degraded": "is started already",
    "inaccessible": "is started already",
    "running": "is started already"
   }
  },
  {
   "name": "storage-pool.stop",
   "noun": "storage-pool",
   "verb": "stop",
   "title": "Stop a storage pool",
   "description": "Stop a storage pool. Nothing in it is deleted; machines cannot be started from it meanwhile.",
   "effect": "destroy",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "task.cancel",
   "noun": "task",
   "verb": "cancel",
   "title": "Stop a task",
   "description": "Stop a task. What it has already done stays done.",
   "effect": "change",
   "access": "admin",
   "target": "task",
   "arguments": [],
   "refused": {
    "cancelled": "has ended already",
    "done": "has ended already",
    "failed": "has ended already"
   }
  },
  {
   "name": "task.list",
   "noun": "task",
   "verb": "list",
   "title": "List the tasks of the cell, newest first",
   "description": "List the tasks of the cell, newest first.",
   "effect": "read",
   "access": "viewer",
   "target": "cell",
   "arguments": [
    {
     "name": "host",
     "kind": "text",
     "required": false,
     "description": "Only those on this hypervisor."
    },
    {
     "name": "state",
     "kind": "text",
     "required": false,
     "description": "Only those in this state, for example running."
    }
   ],
   "refused": {}
  },
  {
   "name": "task.show",
   "noun": "task",
   "verb": "show",
   "title": "Show how a task stands",
   "description": "Show how a task stands.",
   "effect": "read",
   "access": "viewer",
   "target": "task",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "task.wait",
   "noun": "task",
   "verb": "wait",
   "title": "Wait until a task ends, at most the given time",
   "description": "Wait until a task ends, at most the given time; answers how it stands then.",
   "effect": "read",
   "access": "viewer",
   "target": "task",
   "arguments": [
    {
     "name": "timeout",
     "kind": "integer",
     "required": false,
     "default": 60,
     "minimum": 0,
     "maximum": 3600,
     "description": "How many seconds to wait at most."
    }
   ],
   "refused": {}
  },
  {
   "name": "volume.info",
   "noun": "volume",
   "verb": "info",
   "title": "Show everything known about a volume of a storage pool",
   "description": "Show everything known about a volume of a storage pool.",
   "effect": "read",
   "access": "viewer",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.list",
   "noun": "volume",
   "verb": "list",
   "title": "List the volumes of a storage pool",
   "description": "List the volumes of a storage pool.",
   "effect": "read",
   "access": "viewer",
   "target": "storage-pool",
   "arguments": [],
   "refused": {
    "inactive": "is not started"
   }
  }
 ],
 "events": {
  "domain.added": "a machine appeared: it was defined, or found when control began",
  "domain.agent-connected": "the guest agent answers",
  "domain.agent-disconnected": "the guest agent does not answer any more",
  "domain.block-job": "a job on one of its disks went on or ended",
  "domain.changed": "its definition, name, note or another fact changed",
  "domain.crashed": "it stopped by accident",
  "domain.degraded": "its actor failed and is being restarted",
  "domain.device-added": "a device was plugged in",
  "domain.device-removed": "a device was unplugged",
  "domain.duplicate": "it runs on two hosts at once, or does so no more",
  "domain.graphics": "somebody connected to or left its screen",
  "domain.io-error": "a disk of it reports errors",
  "domain.job": "a job of libvirt on it went on or ended",
  "domain.known": "control over it is back",
  "domain.migrated": "it is on another host now",
  "domain.migrating": "it is being moved to another host",
  "domain.parked": "it was taken from its host and lies on the cell's shelf",
  "domain.paused": "its virtual CPUs stand still",
  "domain.rebooted": "the guest rebooted",
  "domain.resumed": "its virtual CPUs go on",
  "domain.shutting-down": "the guest is going down by itself",
  "domain.started": "it runs",
  "domain.stopped": "it is off",
  "domain.suspended": "the guest put itself to sleep",
  "domain.undefined": "it is gone from libvirt",
  "domain.unknown": "control over it was lost",
  "domain.watchdog": "its watchdog fired",
  "hypervisor.changed": "its facts or its condition changed",
  "hypervisor.connected": "libvirt answers and everything was listed",
  "hypervisor.lost": "libvirt does not answer any more; its entities are unknown",
  "hypervisor.removed": "it was taken out of the configuration",
  "network.added": "a network appeared",
  "network.changed": "a fact of it changed",
  "network.started": "it is active",
  "network.stopped": "it is inactive",
  "network.undefined": "it is gone from libvirt",
  "storage-pool.added": "a storage pool appeared",
  "storage-pool.changed": "a fact of it changed",
  "storage-pool.refreshed": "its volumes were listed again",
  "storage-pool.started": "it is active",
  "storage-pool.stopped": "it is inactive",
  "storage-pool.undefined": "it is gone from libvirt",
  "task.finished": "it ended: done, failed or cancelled",
  "task.progressed": "it went on",
  "task.removed": "it was forgotten to make room",
  "task.started": "a long piece of work began"
 },
 "states": {
  "domain": [
   "running",
   "paused",
   "shutdown",
   "shutoff",
   "crashed",
   "pmsuspended"
  ],
  "hypervisor": [
   "connecting",
   "connected",
   "lost"
  ],
  "network": [
   "active",
   "inactive"
  ],
  "storage-pool": [
   "running",
   "inactive",
   "building",
   "degraded",
   "inaccessible"
  ],
  "task": [
   "running",
   "done",
   "failed",
   "cancelled"
  ]
 }
};
