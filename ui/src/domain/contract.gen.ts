// Generated from actors/contract/catalog.json by `npm run gen`. Do not edit.
import type { Catalog } from './catalog';

/** The arguments of every command. */
export interface CommandArguments {
  'backup.create': { pool: string; kind?: 'auto' | 'full' | 'incremental'; limit?: number | string; quiesce?: boolean };
  'backup.delete': { backup: string; with_later?: boolean };
  'backup.list': { machine?: string };
  'backup.restore': { backup: string; to: string; into?: string };
  'backup.verify': { backup: string };
  'cell.invite': { lifetime?: number; name?: string };
  'cell.members': Record<string, never>;
  'cell.revoke': { name: string };
  'checkpoint.delete': { checkpoint?: string; all?: boolean };
  'checkpoint.list': Record<string, never>;
  'domain.add-device': { kind: 'rng' | 'guest-agent' | 'serial' | 'watchdog' | 'sound' | 'cdrom' | 'tablet'; when?: 'now' | 'next-boot' | 'both' };
  'domain.attach-disk': { volume: string; bandwidth?: number | string; bus?: 'virtio' | 'scsi' | 'sata' | 'ide' | 'usb'; cache?: 'default' | 'none' | 'writethrough' | 'writeback' | 'directsync' | 'unsafe'; cdrom?: boolean; device?: string; discard?: boolean; iops?: number; read_only?: boolean; shareable?: boolean; when?: 'now' | 'next-boot' | 'both' };
  'domain.attach-filesystem': { directory: string; tag: string; read_only?: boolean; when?: 'now' | 'next-boot' | 'both' };
  'domain.attach-host-device': { device: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.attach-nic': { bandwidth?: number | string; bridge?: string; filter?: string; link_down?: boolean; mac?: string; model?: string; network?: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.autostart': { delay?: number; enabled?: boolean; order?: number };
  'domain.backups': Record<string, never>;
  'domain.change-media': { drive?: string; force?: boolean; volume?: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.clone': { linked?: boolean; note?: string; pool?: string; start?: boolean; to?: string };
  'domain.commit-disk': { disk: string };
  'domain.console': { kind?: 'vnc' | 'serial' | 'spice'; proof?: string; take_over?: boolean };
  'domain.copy-disk': { disk: string; to: string; bandwidth?: number | string };
  'domain.create': { cloud_init?: boolean; disk?: string; firmware?: 'bios' | 'uefi' | 'secure-boot'; graphics?: 'none' | 'vnc'; hostname?: string; image?: string; iso?: string; linked?: boolean; memory?: number | string; name?: string; network?: string; network_boot?: boolean; network_config?: string; note?: string; password?: string; pool?: string; size?: number | string; ssh_key?: string; start?: boolean; user?: string; user_data?: string; vcpus?: number };
  'domain.define': { name: string; disk?: string; graphics?: 'none' | 'vnc'; memory?: number | string; network?: string; note?: string; vcpus?: number };
  'domain.detach-disk': { disk: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.detach-filesystem': { tag: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.detach-host-device': { device: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.detach-nic': { mac: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.devices': { kind?: string };
  'domain.diff': { from?: number; to?: number };
  'domain.discard-saved': Record<string, never>;
  'domain.edit-xml': { xml: string };
  'domain.export': { pool: string; name?: string; portable?: boolean };
  'domain.force-off': Record<string, never>;
  'domain.guest-freeze': { deadline?: number };
  'domain.guest-info': Record<string, never>;
  'domain.guest-run': { program: string; arguments?: string; input?: string; timeout?: number };
  'domain.guest-thaw': Record<string, never>;
  'domain.guest-time-sync': Record<string, never>;
  'domain.history': Record<string, never>;
  'domain.import': { source: string; memory?: number | string; name?: string; network?: string; pool?: string; start?: boolean; vcpus?: number };
  'domain.info': Record<string, never>;
  'domain.list': { host?: string; name?: string; state?: string };
  'domain.migrate': { auto_converge?: boolean; bandwidth_mib?: number; copy_storage?: boolean; parallel?: number; post_copy?: boolean; to?: string; transport?: 'direct' | 'tls' | 'tunnelled'; trust_storage?: boolean };
  'domain.migrate-check': { copy_storage?: boolean; to?: string; trust_storage?: boolean };
  'domain.note': { text?: string };
  'domain.park': Record<string, never>;
  'domain.parked': Record<string, never>;
  'domain.paste': { text: string; enter?: boolean; layout?: 'us' | 'uk' | 'de' | 'fr' };
  'domain.pause': Record<string, never>;
  'domain.reboot': Record<string, never>;
  'domain.remove-device': { kind: 'rng' | 'guest-agent' | 'serial' | 'watchdog' | 'sound' | 'cdrom' | 'tablet'; when?: 'now' | 'next-boot' | 'both' };
  'domain.rename': { to: string };
  'domain.reset': Record<string, never>;
  'domain.resize-disk': { disk: string; size: number | string };
  'domain.restore': { backup: string; into?: string; pool?: string };
  'domain.resume': Record<string, never>;
  'domain.revert': { version: number };
  'domain.save': Record<string, never>;
  'domain.screenshot': { thumbnail?: boolean; width?: number };
  'domain.send-key': { keys: string; hold?: number };
  'domain.set-boot': { machine?: string; menu?: boolean; order?: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-cpu': { mode?: 'default' | 'custom' | 'host-model' | 'host-passthrough' | 'maximum'; model?: string; pin?: string; topology?: string; vcpu?: number; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-disk': { disk: string; bandwidth?: number | string; bus?: 'virtio' | 'scsi' | 'sata' | 'ide' | 'usb'; cache?: 'default' | 'none' | 'writethrough' | 'writeback' | 'directsync' | 'unsafe'; discard?: boolean; iops?: number; read_bandwidth?: number | string; read_iops?: number; when?: 'now' | 'next-boot' | 'both'; write_bandwidth?: number | string; write_iops?: number };
  'domain.set-firmware': { firmware?: 'bios' | 'uefi' | 'secure-boot'; tpm?: boolean; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-graphics': { keymap?: string; screen?: 'none' | 'vnc' | 'spice'; socket?: boolean; video?: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-guest-password': { password: string; user: string };
  'domain.set-lifecycle': { clock?: 'utc' | 'localtime'; on_crash?: 'destroy' | 'restart' | 'preserve'; on_poweroff?: 'destroy' | 'restart' | 'preserve'; on_reboot?: 'destroy' | 'restart' | 'preserve'; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-memory': { huge_pages?: number | string; maximum?: number | string; memory?: number | string; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-nic': { mac: string; bandwidth?: number | string; bridge?: string; filter?: string; link?: 'up' | 'down'; model?: string; network?: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-screen-password': { password: string; when?: 'now' | 'next-boot' | 'both' };
  'domain.set-vcpus': { maximum?: number; vcpus?: number; when?: 'now' | 'next-boot' | 'both' };
  'domain.shutdown': { mode?: 'any' | 'acpi' | 'agent'; timeout?: number };
  'domain.start': { paused?: boolean };
  'domain.template': { enabled?: boolean };
  'domain.undefine': { delete_volumes?: string; with_volumes?: 'none' | 'all' };
  'domain.unpark': { machine: string };
  'domain.usage': Record<string, never>;
  'domain.usage-history': Record<string, never>;
  'domain.viewers': Record<string, never>;
  'domain.volumes': Record<string, never>;
  'domain.xml': { inactive?: boolean };
  'hypervisor.capabilities': Record<string, never>;
  'hypervisor.devices': { kind?: string };
  'hypervisor.drain': { at_a_time?: number; copy_storage?: boolean; include_off?: boolean; only?: string; to?: string; trust_storage?: boolean };
  'hypervisor.drain-plan': { copy_storage?: boolean; only?: string; to?: string; trust_storage?: boolean };
  'hypervisor.expel': { person: string };
  'hypervisor.find-mac': { mac: string };
  'hypervisor.find-users': { places: string; shelved?: string };
  'hypervisor.info': Record<string, never>;
  'hypervisor.list': { name?: string };
  'hypervisor.log': { level?: 'error' | 'warn' | 'info' | 'debug'; lines?: number };
  'hypervisor.look-again': { domain: string };
  'hypervisor.maintenance': { enabled?: boolean };
  'hypervisor.past': { domain: string; after?: number };
  'hypervisor.receive': { domain: string; epoch: number; saga: string; autostart?: boolean; definition?: string; operations?: string };
  'hypervisor.release': { domain: string; epoch: number; saga: string };
  'hypervisor.remove-copy': { machine: string };
  'hypervisor.reserve': { epoch: number; on_behalf_of: string; passport: string; way: string; role?: 'viewer' | 'admin' | 'admin-raw' | 'node'; saga?: string };
  'hypervisor.send-back': { domain: string; on_behalf_of: string; way: string; role?: 'viewer' | 'admin' | 'admin-raw' | 'node' };
  'hypervisor.standing': { domain: string };
  'hypervisor.undrain': { bring_back?: boolean };
  'hypervisor.unreserve': { saga: string };
  'hypervisor.usage': Record<string, never>;
  'hypervisor.usage-history': Record<string, never>;
  'hypervisor.yield': { domain: string; saga: string; off?: boolean };
  'interface.list': { kind?: string };
  'network.add-host': { address: string; mac: string; name?: string };
  'network.add-name': { name: string; value: string; kind?: 'host' | 'srv' | 'txt' };
  'network.attached': Record<string, never>;
  'network.autostart': { enabled?: boolean };
  'network.define': { name: string; address?: string; autostart?: boolean; bridge?: string; dhcp_end?: string; dhcp_start?: string; domain?: string; inbound?: number | string; mode?: 'nat' | 'isolated' | 'route' | 'open' | 'bridge' | 'ovs'; outbound?: number | string; start?: boolean; vlan?: number };
  'network.hosts': Record<string, never>;
  'network.info': Record<string, never>;
  'network.leases': Record<string, never>;
  'network.list': { host?: string; name?: string };
  'network.names': Record<string, never>;
  'network.remove-host': { which: string };
  'network.remove-name': { name: string; kind?: 'host' | 'srv' | 'txt'; value?: string };
  'network.set-range': { first: string; last: string; add?: boolean; drop_leases?: boolean };
  'network.start': Record<string, never>;
  'network.stop': Record<string, never>;
  'network.undefine': Record<string, never>;
  'network.xml': { inactive?: boolean };
  'nwfilter.list': Record<string, never>;
  'nwfilter.xml': { nwfilter: string };
  'snapshot.create': { description?: string; external?: boolean; name?: string; quiesce?: boolean };
  'snapshot.delete': { snapshot: string; children?: boolean };
  'snapshot.list': Record<string, never>;
  'snapshot.revert': { snapshot: string; discard?: boolean; keep_as?: string };
  'storage-pool.autostart': { enabled?: boolean };
  'storage-pool.build': { overwrite?: boolean };
  'storage-pool.define': { name: string; auth_secret?: string; auth_user?: string; autostart?: boolean; build?: boolean; path?: string; source_device?: string; source_dir?: string; source_format?: string; source_host?: string; source_name?: string; start?: boolean; type?: 'dir' | 'fs' | 'netfs' | 'logical' | 'iscsi' | 'rbd' | 'zfs' | 'scsi' };
  'storage-pool.delete': { with_volumes?: boolean };
  'storage-pool.info': Record<string, never>;
  'storage-pool.list': { host?: string; name?: string };
  'storage-pool.orphans': Record<string, never>;
  'storage-pool.refresh': Record<string, never>;
  'storage-pool.start': Record<string, never>;
  'storage-pool.stop': Record<string, never>;
  'storage-pool.undefine': Record<string, never>;
  'task.cancel': Record<string, never>;
  'task.list': { host?: string; state?: string };
  'task.show': Record<string, never>;
  'task.wait': { timeout?: number };
  'volume.clone': { volume: string; to: string; pool?: string };
  'volume.convert': { volume: string; format: 'raw' | 'qcow2'; to?: string };
  'volume.create': { volume: string; backing?: string; capacity?: number | string; format?: 'raw' | 'qcow2'; preallocation?: 'none' | 'metadata' | 'full' };
  'volume.delete': { volume: string };
  'volume.download': { volume: string; proof: string };
  'volume.info': { volume: string };
  'volume.list': { kind?: 'all' | 'disk' | 'iso' };
  'volume.rename': { volume: string; to: string };
  'volume.resize': { volume: string; capacity: number | string; shrink?: boolean };
  'volume.upload': { volume: string; proof: string; resume?: boolean };
  'volume.users': { volume: string };
  'volume.wipe': { volume: string };
}

/** The name of a command. */
export type CommandName = keyof CommandArguments;

/** Everything that can be asked and everything that is told. */
export const catalog: Catalog = {
 "commands": [
  {
   "name": "backup.create",
   "noun": "backup",
   "verb": "create",
   "title": "Back up a virtual machine to a storage pool of its host and follow it until it was read back",
   "description": "Back up a virtual machine to a storage pool of its host and follow it until it was read back. A running one goes on meanwhile, and the backup holds what its disks held at the beginning.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "pool",
     "kind": "text",
     "required": true,
     "description": "The pool it goes to, by name: one whose volumes are files of the host."
    },
    {
     "name": "kind",
     "kind": "choice",
     "required": false,
     "default": "auto",
     "choices": [
      "auto",
      "full",
      "incremental"
     ],
     "description": "Everything, or what was written since the last backup of this machine in that pool."
    },
    {
     "name": "limit",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "How many bytes a second it may read at most, for example 50MiB."
    },
    {
     "name": "quiesce",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Have the guest agent write everything to the disks first. It stands still for a moment."
    }
   ],
   "refused": {
    "pmsuspended": "sleeps; resume it first",
    "shutdown": "is going down; wait until it is off"
   }
  },
  {
   "name": "backup.delete",
   "noun": "backup",
   "verb": "delete",
   "title": "Delete a backup",
   "description": "Delete a backup. Refused while later ones build on it.",
   "effect": "destroy",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "backup",
     "kind": "text",
     "required": true,
     "description": "The name of the backup."
    },
    {
     "name": "with_later",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Delete those that build on it as well."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "backup.list",
   "noun": "backup",
   "verb": "list",
   "title": "List the backups in a storage pool, oldest first, those of machines that are gone included",
   "description": "List the backups in a storage pool, oldest first, those of machines that are gone included.",
   "effect": "read",
   "access": "viewer",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "machine",
     "kind": "text",
     "required": false,
     "description": "Only those of the machine with this name or UUID."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "backup.restore",
   "noun": "backup",
   "verb": "restore",
   "title": "Make a new virtual machine from a backup and follow it",
   "description": "Make a new virtual machine from a backup and follow it. It gets a new UUID and new MACs, and stays off; the backup is read through first, and refused if it is not what was written.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "backup",
     "kind": "text",
     "required": true,
     "description": "The name of the backup."
    },
    {
     "name": "to",
     "kind": "text",
     "required": true,
     "description": "The name of the new machine."
    },
    {
     "name": "into",
     "kind": "text",
     "required": false,
     "description": "The pool its disks go to, by name; the backup's own when not given."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "backup.verify",
   "noun": "backup",
   "verb": "verify",
   "title": "Read a backup and all it builds on through, and follow it: every file is compared with what was written, and checked as an image",
   "description": "Read a backup and all it builds on through, and follow it: every file is compared with what was written, and checked as an image.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "backup",
     "kind": "text",
     "required": true,
     "description": "The name of the backup."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
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
   "name": "checkpoint.delete",
   "noun": "checkpoint",
   "verb": "delete",
   "title": "Delete a checkpoint, or all",
   "description": "Delete a checkpoint, or all. If it is that of the last backup, the next one is a full one; backups stay as they are.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "checkpoint",
     "kind": "text",
     "required": false,
     "description": "The name of the checkpoint."
    },
    {
     "name": "all",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "All of them."
    }
   ],
   "refused": {}
  },
  {
   "name": "checkpoint.list",
   "noun": "checkpoint",
   "verb": "list",
   "title": "List the checkpoints of a virtual machine, oldest first",
   "description": "List the checkpoints of a virtual machine, oldest first.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "domain.add-device",
   "noun": "domain",
   "verb": "add-device",
   "title": "Give a machine a device that needs nothing but its kind: a random number source, the agent's channel, a watchdog, sound ",
   "description": "Give a machine a device that needs nothing but its kind: a random number source, the agent's channel, a watchdog, sound ...",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "kind",
     "kind": "choice",
     "required": true,
     "choices": [
      "rng",
      "guest-agent",
      "serial",
      "watchdog",
      "sound",
      "cdrom",
      "tablet"
     ],
     "description": "Which kind."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.attach-disk",
   "noun": "domain",
   "verb": "attach-disk",
   "title": "Give a machine another disk",
   "description": "Give a machine another disk. The volume must not be a disk of another machine, unless both share it.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "The volume as POOL/VOLUME."
    },
    {
     "name": "bandwidth",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Most bytes in a second, for example 50MiB."
    },
    {
     "name": "bus",
     "kind": "choice",
     "required": false,
     "choices": [
      "virtio",
      "scsi",
      "sata",
      "ide",
      "usb"
     ],
     "description": "How it is connected; virtio without it."
    },
    {
     "name": "cache",
     "kind": "choice",
     "required": false,
     "choices": [
      "default",
      "none",
      "writethrough",
      "writeback",
      "directsync",
      "unsafe"
     ],
     "description": "How the host caches it."
    },
    {
     "name": "cdrom",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Whether it is a CD-ROM drive with that volume in it."
    },
    {
     "name": "device",
     "kind": "text",
     "required": false,
     "description": "What the guest's side of it is called, for example vdb; without it the next free one."
    },
    {
     "name": "discard",
     "kind": "boolean",
     "required": false,
     "description": "Whether what the guest discards is given back to the pool."
    },
    {
     "name": "iops",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "description": "Most operations in a second."
    },
    {
     "name": "read_only",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Whether the guest can only read it."
    },
    {
     "name": "shareable",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Whether several machines use it at once, with a file system made for that."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.attach-filesystem",
   "noun": "domain",
   "verb": "attach-filesystem",
   "title": "Share a directory of the host with a machine, from its next boot on",
   "description": "Share a directory of the host with a machine, from its next boot on. The host's administrator lists the directories that may be shared.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "directory",
     "kind": "text",
     "required": true,
     "description": "The directory on the host, for example /srv/share/web1."
    },
    {
     "name": "tag",
     "kind": "text",
     "required": true,
     "description": "What the guest calls it: mount -t virtiofs TAG /mnt."
    },
    {
     "name": "read_only",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Whether the guest may only read it."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.attach-host-device",
   "noun": "domain",
   "verb": "attach-host-device",
   "title": "Hand a device of the host to a machine",
   "description": "Hand a device of the host to a machine. The host's administrator lists the devices that may be handed out.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "device",
     "kind": "text",
     "required": true,
     "description": "Its address: 0000:03:00.0 for PCI, 1234:abcd (vendor and product) for USB."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.attach-nic",
   "noun": "domain",
   "verb": "attach-nic",
   "title": "Give a machine another network card",
   "description": "Give a machine another network card.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "bandwidth",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Most bytes in a second, each way, for example 10MiB."
    },
    {
     "name": "bridge",
     "kind": "text",
     "required": false,
     "description": "The host's bridge it is on, instead of a network."
    },
    {
     "name": "filter",
     "kind": "text",
     "required": false,
     "description": "The filter its traffic goes through."
    },
    {
     "name": "link_down",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Whether its cable is out."
    },
    {
     "name": "mac",
     "kind": "text",
     "required": false,
     "description": "Its MAC; without it a new one that nobody has."
    },
    {
     "name": "model",
     "kind": "text",
     "required": false,
     "description": "Its model; virtio without it."
    },
    {
     "name": "network",
     "kind": "text",
     "required": false,
     "description": "The network it is on."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.autostart",
   "noun": "domain",
   "verb": "autostart",
   "title": "Choose whether a virtual machine starts with its host, and in which order",
   "description": "Choose whether a virtual machine starts with its host, and in which order. Without an order libvirt starts it, at no certain time.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "delay",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "maximum": 3600,
     "description": "How many seconds to wait after its start before the next one is started."
    },
    {
     "name": "enabled",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether it does. What is not said of order and delay is taken away."
    },
    {
     "name": "order",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "maximum": 9999,
     "description": "Its place when its host boots: lower numbers first, those with the same number by name."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.backups",
   "noun": "domain",
   "verb": "backups",
   "title": "List the backups of a virtual machine in all pools of its host, oldest first",
   "description": "List the backups of a virtual machine in all pools of its host, oldest first.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "domain.change-media",
   "noun": "domain",
   "verb": "change-media",
   "title": "Put another medium into a CD-ROM or floppy drive, or take it out",
   "description": "Put another medium into a CD-ROM or floppy drive, or take it out.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "drive",
     "kind": "text",
     "required": false,
     "description": "Which drive, for example sda; without it the only one there is."
    },
    {
     "name": "force",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Take the old medium out even if the guest has locked the drive."
    },
    {
     "name": "volume",
     "kind": "text",
     "required": false,
     "description": "The medium as POOL/VOLUME; without it the drive is emptied."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.clone",
   "noun": "domain",
   "verb": "clone",
   "title": "Make a new machine as a copy of one that is off: with new disks, cards of its own, and everything else as it is",
   "description": "Make a new machine as a copy of one that is off: with new disks, cards of its own, and everything else as it is.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "linked",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Build its disks on those of the template instead of copying them: made at once, and holding only what differs."
    },
    {
     "name": "note",
     "kind": "text",
     "required": false,
     "description": "What to remember about it; without it what was remembered about the original."
    },
    {
     "name": "pool",
     "kind": "text",
     "required": false,
     "description": "The pool its disks shall be in; without one each is in the pool of its original."
    },
    {
     "name": "start",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Start it when it is there."
    },
    {
     "name": "to",
     "kind": "text",
     "required": false,
     "description": "The name of the new machine; without one NAME-copy."
    }
   ],
   "refused": {
    "paused": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "pmsuspended": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "running": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "shutdown": "is not off, and what it writes meanwhile would tear a copy; shut it down first"
   }
  },
  {
   "name": "domain.commit-disk",
   "noun": "domain",
   "verb": "commit-disk",
   "title": "Merge the newest layer of a running machine's disk into the one below it, and let the machine go on with that",
   "description": "Merge the newest layer of a running machine's disk into the one below it, and let the machine go on with that.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "disk",
     "kind": "text",
     "required": true,
     "description": "Which one, for example vda."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.console",
   "noun": "domain",
   "verb": "console",
   "title": "Open the screen or the serial line of a virtual machine",
   "description": "Open the screen or the serial line of a virtual machine.",
   "effect": "read",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "kind",
     "kind": "choice",
     "required": false,
     "default": "vnc",
     "choices": [
      "vnc",
      "serial",
      "spice"
     ],
     "description": "Which one."
    },
    {
     "name": "proof",
     "kind": "text",
     "required": false,
     "description": "The SHA-256 of a secret of the client, in base64url; the ticket opens only together with that secret. Needed but for spice."
    },
    {
     "name": "take_over",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Send away everybody else who has it open."
    }
   ],
   "refused": {
    "crashed": "is off; start it first",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.copy-disk",
   "noun": "domain",
   "verb": "copy-disk",
   "title": "Copy a disk of a running machine to another volume, and let the machine go on with the copy",
   "description": "Copy a disk of a running machine to another volume, and let the machine go on with the copy. The old volume stays.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "disk",
     "kind": "text",
     "required": true,
     "description": "Which one, for example vda."
    },
    {
     "name": "to",
     "kind": "text",
     "required": true,
     "description": "The volume it is copied to, as POOL/VOLUME. It must exist, be as large, and be no machine's disk."
    },
    {
     "name": "bandwidth",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Most bytes in a second, for example 50MiB."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.create",
   "noun": "domain",
   "verb": "create",
   "title": "Make a virtual machine with its disk and start it: from an image with cloud-init, from an installation CD, on an existing disk, or by network boot",
   "description": "Make a virtual machine with its disk and start it: from an image with cloud-init, from an installation CD, on an existing disk, or by network boot. Either all of it is made, or nothing is left.",
   "effect": "change",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "cloud_init",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether an image is told its name, users and keys by cloud-init, on a seed CD beside the disk."
    },
    {
     "name": "disk",
     "kind": "text",
     "required": false,
     "description": "An existing volume that becomes its disk as it is, whatever its format: a volume's name or POOL/VOLUME."
    },
    {
     "name": "firmware",
     "kind": "choice",
     "required": false,
     "choices": [
      "bios",
      "uefi",
      "secure-boot"
     ],
     "description": "Its firmware; that of the hypervisor when not given."
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
     "name": "hostname",
     "kind": "text",
     "required": false,
     "description": "cloud-init: the name the guest has for itself; that of the machine when not given."
    },
    {
     "name": "image",
     "kind": "text",
     "required": false,
     "description": "The image its disk is made from: a volume's name, which is looked for in all running pools of the host, or POOL/VOLUME."
    },
    {
     "name": "iso",
     "kind": "text",
     "required": false,
     "description": "An installation CD, which the machine with an empty disk boots from: a volume's name or POOL/VOLUME."
    },
    {
     "name": "linked",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Build its disk on the image instead of copying it: made at once, holds only what differs, and the image must stay."
    },
    {
     "name": "memory",
     "kind": "bytes",
     "required": false,
     "default": 2147483648,
     "minimum": 0,
     "description": "Its memory, for example 512MiB."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Its name: letters, digits and . _ + - (at most 64); without one it gets a free one that can be said aloud."
    },
    {
     "name": "network",
     "kind": "text",
     "required": false,
     "description": "The network its card is on, or none; the network default when not given, else the only one."
    },
    {
     "name": "network_boot",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Boot from the network first (PXE)."
    },
    {
     "name": "network_config",
     "kind": "text",
     "required": false,
     "description": "cloud-init: the whole network configuration; without one the guest asks for an address by DHCP."
    },
    {
     "name": "note",
     "kind": "text",
     "required": false,
     "description": "What to remember about it."
    },
    {
     "name": "password",
     "kind": "text",
     "required": false,
     "description": "cloud-init: a password for the console. Only its hash is kept."
    },
    {
     "name": "pool",
     "kind": "text",
     "required": false,
     "description": "The storage pool its volumes are made in; that of the image when not given, else the pool default or the only one."
    },
    {
     "name": "size",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "The size of its disk, for example 20GiB: at least that of the image; 20 GiB when the disk begins empty."
    },
    {
     "name": "ssh_key",
     "kind": "text",
     "required": false,
     "description": "cloud-init: public SSH keys that let in, one a line."
    },
    {
     "name": "start",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether it is started."
    },
    {
     "name": "user",
     "kind": "text",
     "required": false,
     "description": "cloud-init: a user who may do everything, with the keys and the password; without one they are those of the image's own user."
    },
    {
     "name": "user_data",
     "kind": "text",
     "required": false,
     "description": "cloud-init: the whole user-data, instead of user, key and password."
    },
    {
     "name": "vcpus",
     "kind": "integer",
     "required": false,
     "default": 2,
     "minimum": 1,
     "maximum": 512,
     "description": "Its virtual CPUs."
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
   "name": "domain.detach-disk",
   "noun": "domain",
   "verb": "detach-disk",
   "title": "Take a disk from a machine",
   "description": "Take a disk from a machine. Its volume stays.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "disk",
     "kind": "text",
     "required": true,
     "description": "Which one, for example vdb."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.detach-filesystem",
   "noun": "domain",
   "verb": "detach-filesystem",
   "title": "Share a directory of the host with a machine no more, from its next boot on",
   "description": "Share a directory of the host with a machine no more, from its next boot on.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "tag",
     "kind": "text",
     "required": true,
     "description": "What the guest calls it."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.detach-host-device",
   "noun": "domain",
   "verb": "detach-host-device",
   "title": "Give a device of the host back to it",
   "description": "Give a device of the host back to it.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "device",
     "kind": "text",
     "required": true,
     "description": "Its address: 0000:03:00.0 for PCI, 1234:abcd (vendor and product) for USB."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.detach-nic",
   "noun": "domain",
   "verb": "detach-nic",
   "title": "Take a network card from a machine",
   "description": "Take a network card from a machine.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "mac",
     "kind": "text",
     "required": true,
     "description": "Which one: its MAC."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.devices",
   "noun": "domain",
   "verb": "devices",
   "title": "List the devices of a virtual machine: disks, network cards, screens and the rest",
   "description": "List the devices of a virtual machine: disks, network cards, screens and the rest.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [
    {
     "name": "kind",
     "kind": "text",
     "required": false,
     "description": "Only those of this kind, for example disk or nic."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.diff",
   "noun": "domain",
   "verb": "diff",
   "title": "Show what differs between two versions of a virtual machine's definition, as a unified diff",
   "description": "Show what differs between two versions of a virtual machine's definition, as a unified diff.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [
    {
     "name": "from",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "description": "The older version; the one before the newer one without it."
    },
    {
     "name": "to",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "description": "The newer version; the present definition without it."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.discard-saved",
   "noun": "domain",
   "verb": "discard-saved",
   "title": "Throw the saved memory of a virtual machine away: its next start is a cold one",
   "description": "Throw the saved memory of a virtual machine away: its next start is a cold one.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "paused": "is not off, so no saved memory waits for its start",
    "pmsuspended": "is not off, so no saved memory waits for its start",
    "running": "is not off, so no saved memory waits for its start",
    "shutdown": "is not off, so no saved memory waits for its start"
   }
  },
  {
   "name": "domain.edit-xml",
   "noun": "domain",
   "verb": "edit-xml",
   "title": "Put another definition in libvirt's XML in place of the present one",
   "description": "Put another definition in libvirt's XML in place of the present one. libvirt's schema must pass it; name and UUID stay.",
   "effect": "change",
   "access": "admin-raw",
   "target": "domain",
   "arguments": [
    {
     "name": "xml",
     "kind": "text",
     "required": true,
     "description": "The whole definition."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.export",
   "noun": "domain",
   "verb": "export",
   "title": "Write a machine that is off as an appliance (OVA) into a pool, to be downloaded and taken to another product or another cell",
   "description": "Write a machine that is off as an appliance (OVA) into a pool, to be downloaded and taken to another product or another cell. The machine stays as it is.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "pool",
     "kind": "text",
     "required": true,
     "description": "The pool that the appliance is written to."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "The name of its volume; without one NAME.ova."
    },
    {
     "name": "portable",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Put its disks on SATA and its cards on e1000, which every product knows; without it they stay as they are."
    }
   ],
   "refused": {
    "paused": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "pmsuspended": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "running": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "shutdown": "is not off, and what it writes meanwhile would tear a copy; shut it down first"
   }
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
   "name": "domain.guest-freeze",
   "noun": "domain",
   "verb": "guest-freeze",
   "title": "Hold the file systems of a guest still, for a copy from outside",
   "description": "Hold the file systems of a guest still, for a copy from outside. They thaw by themselves when the time is over.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "deadline",
     "kind": "integer",
     "required": false,
     "default": 30,
     "minimum": 1,
     "maximum": 600,
     "description": "After how many seconds they thaw by themselves."
    }
   ],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "stands still, and so does the agent in it; resume it first",
    "pmsuspended": "stands still, and so does the agent in it; resume it first",
    "shutdown": "is going down",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.guest-info",
   "noun": "domain",
   "verb": "guest-info",
   "title": "Ask the agent in a guest for its name, system, addresses, file systems and users",
   "description": "Ask the agent in a guest for its name, system, addresses, file systems and users.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "stands still, and so does the agent in it; resume it first",
    "pmsuspended": "stands still, and so does the agent in it; resume it first",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.guest-run",
   "noun": "domain",
   "verb": "guest-run",
   "title": "Run a program in a guest by the agent in it, and answer what it wrote",
   "description": "Run a program in a guest by the agent in it, and answer what it wrote. No shell is between; what it is told is not written down.",
   "effect": "change",
   "access": "admin-raw",
   "target": "domain",
   "arguments": [
    {
     "name": "program",
     "kind": "text",
     "required": true,
     "description": "The program, for example id or /usr/bin/id; the audit names it."
    },
    {
     "name": "arguments",
     "kind": "text",
     "required": false,
     "default": "",
     "description": "Its arguments with spaces between them, and quotes around one that holds spaces. Nothing is expanded. Not written down."
    },
    {
     "name": "input",
     "kind": "text",
     "required": false,
     "description": "What it reads; without it, nothing. Not written down."
    },
    {
     "name": "timeout",
     "kind": "integer",
     "required": false,
     "default": 20,
     "minimum": 1,
     "maximum": 60,
     "description": "How many seconds to wait for its end. After that it goes on in the guest, and nobody hears of it."
    }
   ],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "stands still, and so does the agent in it; resume it first",
    "pmsuspended": "stands still, and so does the agent in it; resume it first",
    "shutdown": "is going down",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.guest-thaw",
   "noun": "domain",
   "verb": "guest-thaw",
   "title": "Let the file systems of a guest go on",
   "description": "Let the file systems of a guest go on.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "stands still, and so does the agent in it; resume it first",
    "pmsuspended": "stands still, and so does the agent in it; resume it first",
    "shutdown": "is going down",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.guest-time-sync",
   "noun": "domain",
   "verb": "guest-time-sync",
   "title": "Set a guest's clock to the time of its host",
   "description": "Set a guest's clock to the time of its host.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "stands still, and so does the agent in it; resume it first",
    "pmsuspended": "stands still, and so does the agent in it; resume it first",
    "shutdown": "is going down",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.history",
   "noun": "domain",
   "verb": "history",
   "title": "List the versions of a virtual machine's definition: who changed what, and when",
   "description": "List the versions of a virtual machine's definition: who changed what, and when.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "domain.import",
   "noun": "domain",
   "verb": "import",
   "title": "Make a machine of an appliance (OVA) or of the image of a disk (qcow2, raw, vmdk, vhdx, vdi, vhd) that was uploaded to a pool",
   "description": "Make a machine of an appliance (OVA) or of the image of a disk (qcow2, raw, vmdk, vhdx, vdi, vhd) that was uploaded to a pool. What was uploaded stays as it is.",
   "effect": "change",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "source",
     "kind": "text",
     "required": true,
     "description": "What is imported, as POOL/VOLUME."
    },
    {
     "name": "memory",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Its memory; without it what the appliance says, or 1GiB."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Its name; without one that of the volume."
    },
    {
     "name": "network",
     "kind": "text",
     "required": false,
     "description": "The network all its cards are on; without it the one that the appliance names if there is one of that name here, else default."
    },
    {
     "name": "pool",
     "kind": "text",
     "required": false,
     "description": "The pool its disks shall be in; that of the source when not given."
    },
    {
     "name": "start",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Start it when it is there."
    },
    {
     "name": "vcpus",
     "kind": "integer",
     "required": false,
     "minimum": 1,
     "maximum": 512,
     "description": "Its virtual CPUs; without them what the appliance says, or 1."
    }
   ],
   "refused": {}
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
   "name": "domain.paste",
   "noun": "domain",
   "verb": "paste",
   "title": "Type a text on a virtual machine's keyboard",
   "description": "Type a text on a virtual machine's keyboard.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "text",
     "kind": "text",
     "required": true,
     "description": "The text, at most 2048 characters."
    },
    {
     "name": "enter",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Press Enter at the end."
    },
    {
     "name": "layout",
     "kind": "choice",
     "required": false,
     "default": "us",
     "choices": [
      "us",
      "uk",
      "de",
      "fr"
     ],
     "description": "The layout the guest has set for its keyboard."
    }
   ],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "is paused and takes no keys; resume it first",
    "shutoff": "is off; start it first"
   }
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
   "name": "domain.remove-device",
   "noun": "domain",
   "verb": "remove-device",
   "title": "Take such a device from a machine: the last one of its kind",
   "description": "Take such a device from a machine: the last one of its kind.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "kind",
     "kind": "choice",
     "required": true,
     "choices": [
      "rng",
      "guest-agent",
      "serial",
      "watchdog",
      "sound",
      "cdrom",
      "tablet"
     ],
     "description": "Which kind."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
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
   "name": "domain.resize-disk",
   "noun": "domain",
   "verb": "resize-disk",
   "title": "Make a disk larger",
   "description": "Make a disk larger. A running guest sees it at once; the file system in it is the guest's affair.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "disk",
     "kind": "text",
     "required": true,
     "description": "Which one, for example vda."
    },
    {
     "name": "size",
     "kind": "bytes",
     "required": true,
     "minimum": 0,
     "description": "Its new size, for example 20GiB."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.restore",
   "noun": "domain",
   "verb": "restore",
   "title": "Take a virtual machine that is off back to what it was in a backup: its disks and its definition",
   "description": "Take a virtual machine that is off back to what it was in a backup: its disks and its definition. It goes on with new volumes when they are whole; those it had stay as they are, until you delete them.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "backup",
     "kind": "text",
     "required": true,
     "description": "The name of the backup."
    },
    {
     "name": "into",
     "kind": "text",
     "required": false,
     "description": "The pool the new disks go to, by name; the backup's own when not given."
    },
    {
     "name": "pool",
     "kind": "text",
     "required": false,
     "description": "The pool it is in, by name; looked for in all pools of the host when not given."
    }
   ],
   "refused": {
    "paused": "is not off; shut it down first",
    "pmsuspended": "is not off; shut it down first",
    "running": "is not off; shut it down first",
    "shutdown": "is not off; shut it down first"
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
   "name": "domain.revert",
   "noun": "domain",
   "verb": "revert",
   "title": "Put an earlier version of the definition in place of the present one",
   "description": "Put an earlier version of the definition in place of the present one. It applies at the next boot.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "version",
     "kind": "integer",
     "required": true,
     "minimum": 1,
     "description": "The number of the version, as domain.history shows it."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.save",
   "noun": "domain",
   "verb": "save",
   "title": "Save the memory of a running virtual machine to disk and stop it",
   "description": "Save the memory of a running virtual machine to disk and stop it; its next start goes on from there (libvirt's managed save).",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off",
    "pmsuspended": "sleeps; resume it first",
    "shutdown": "is going down",
    "shutoff": "is off"
   }
  },
  {
   "name": "domain.screenshot",
   "noun": "domain",
   "verb": "screenshot",
   "title": "Take a picture of the screen of a virtual machine",
   "description": "Take a picture of the screen of a virtual machine.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [
    {
     "name": "thumbnail",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "A small picture, for a list."
    },
    {
     "name": "width",
     "kind": "integer",
     "required": false,
     "default": 1920,
     "minimum": 16,
     "maximum": 4096,
     "description": "The greatest width in pixels; it may come smaller, so that it fits into one answer."
    }
   ],
   "refused": {
    "crashed": "is off; start it first",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.send-key",
   "noun": "domain",
   "verb": "send-key",
   "title": "Press keys of a virtual machine's keyboard together, for example ctrl+alt+delete",
   "description": "Press keys of a virtual machine's keyboard together, for example ctrl+alt+delete.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "keys",
     "kind": "text",
     "required": true,
     "description": "The keys, joined by +; several strokes one after the other are parted by spaces."
    },
    {
     "name": "hold",
     "kind": "integer",
     "required": false,
     "default": 50,
     "minimum": 1,
     "maximum": 5000,
     "description": "How many milliseconds they are held."
    }
   ],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "is paused and takes no keys; resume it first",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.set-boot",
   "noun": "domain",
   "verb": "set-boot",
   "title": "Change from what a machine boots, at its next boot",
   "description": "Change from what a machine boots, at its next boot.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "machine",
     "kind": "text",
     "required": false,
     "description": "The machine type, for example q35 or pc."
    },
    {
     "name": "menu",
     "kind": "boolean",
     "required": false,
     "description": "Whether the firmware shows its menu."
    },
    {
     "name": "order",
     "kind": "text",
     "required": false,
     "description": "Devices in order, with commas: hd, cdrom, network, fd; or disks and cards by name, for example vda,52:54:00:12:34:56."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-cpu",
   "noun": "domain",
   "verb": "set-cpu",
   "title": "Change which processor the guest sees, and on which processors of the host it runs",
   "description": "Change which processor the guest sees, and on which processors of the host it runs.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "mode",
     "kind": "choice",
     "required": false,
     "choices": [
      "default",
      "custom",
      "host-model",
      "host-passthrough",
      "maximum"
     ],
     "description": "Which processor the guest sees."
    },
    {
     "name": "model",
     "kind": "text",
     "required": false,
     "description": "The name of the model, for example Nehalem; means mode custom."
    },
    {
     "name": "pin",
     "kind": "text",
     "required": false,
     "description": "Processors of the host that every virtual CPU may run on, for example 0-3,^1; \"all\" takes the limit away. Also now."
    },
    {
     "name": "topology",
     "kind": "text",
     "required": false,
     "description": "How the virtual CPUs are arranged: SOCKETS:CORES:THREADS, for example 1:2:2; their product is the maximum of virtual CPUs."
    },
    {
     "name": "vcpu",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "maximum": 511,
     "description": "Only this virtual CPU is pinned."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-disk",
   "noun": "domain",
   "verb": "set-disk",
   "title": "Change how a disk is connected, cached and limited",
   "description": "Change how a disk is connected, cached and limited. Limits apply now; the rest at the next boot.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "disk",
     "kind": "text",
     "required": true,
     "description": "Which one, for example vda."
    },
    {
     "name": "bandwidth",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Most bytes in a second, for example 50MiB; 0 for no limit."
    },
    {
     "name": "bus",
     "kind": "choice",
     "required": false,
     "choices": [
      "virtio",
      "scsi",
      "sata",
      "ide",
      "usb"
     ],
     "description": "How it is connected; its name changes with it."
    },
    {
     "name": "cache",
     "kind": "choice",
     "required": false,
     "choices": [
      "default",
      "none",
      "writethrough",
      "writeback",
      "directsync",
      "unsafe"
     ],
     "description": "How the host caches it."
    },
    {
     "name": "discard",
     "kind": "boolean",
     "required": false,
     "description": "Whether what the guest discards is given back to the pool."
    },
    {
     "name": "iops",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "description": "Most operations in a second; 0 for no limit."
    },
    {
     "name": "read_bandwidth",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Most bytes read in a second; 0 for no limit."
    },
    {
     "name": "read_iops",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "description": "Most reads in a second; 0 for no limit."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    },
    {
     "name": "write_bandwidth",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Most bytes written in a second; 0 for no limit."
    },
    {
     "name": "write_iops",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "description": "Most writes in a second; 0 for no limit."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-firmware",
   "noun": "domain",
   "verb": "set-firmware",
   "title": "Change a machine's firmware and its trusted platform module, at its next boot",
   "description": "Change a machine's firmware and its trusted platform module, at its next boot.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "firmware",
     "kind": "choice",
     "required": false,
     "choices": [
      "bios",
      "uefi",
      "secure-boot"
     ],
     "description": "Which firmware."
    },
    {
     "name": "tpm",
     "kind": "boolean",
     "required": false,
     "description": "Whether it has an emulated trusted platform module (TPM 2.0)."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-graphics",
   "noun": "domain",
   "verb": "set-graphics",
   "title": "Change a machine's screen, at its next boot",
   "description": "Change a machine's screen, at its next boot. It is reached through Archipel only: it listens on loopback or on a socket.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "keymap",
     "kind": "text",
     "required": false,
     "description": "How the keyboards of those who look are laid out, in QEMU's words: de, en-us, fr-ch. Viewers that send keys and not letters, such as the page, need none; empty for none."
    },
    {
     "name": "screen",
     "kind": "choice",
     "required": false,
     "choices": [
      "none",
      "vnc",
      "spice"
     ],
     "description": "Which screen it has."
    },
    {
     "name": "socket",
     "kind": "boolean",
     "required": false,
     "description": "Whether it listens on a socket file instead of a port of loopback."
    },
    {
     "name": "video",
     "kind": "text",
     "required": false,
     "description": "The graphics adapter the guest sees, for example virtio, vga or qxl."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-guest-password",
   "noun": "domain",
   "verb": "set-guest-password",
   "title": "Give a user of a guest another password",
   "description": "Give a user of a guest another password. The agent in the guest sets it; it is kept nowhere.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "password",
     "kind": "text",
     "required": true,
     "description": "The new password."
    },
    {
     "name": "user",
     "kind": "text",
     "required": true,
     "description": "The user, for example root."
    }
   ],
   "refused": {
    "crashed": "is off; start it first",
    "paused": "stands still, and so does the agent in it; resume it first",
    "pmsuspended": "stands still, and so does the agent in it; resume it first",
    "shutdown": "is going down",
    "shutoff": "is off; start it first"
   }
  },
  {
   "name": "domain.set-lifecycle",
   "noun": "domain",
   "verb": "set-lifecycle",
   "title": "Change what happens when a guest powers off, reboots or crashes, and which time its clock shows",
   "description": "Change what happens when a guest powers off, reboots or crashes, and which time its clock shows.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "clock",
     "kind": "choice",
     "required": false,
     "choices": [
      "utc",
      "localtime"
     ],
     "description": "The time its clock shows; changes at the next boot only."
    },
    {
     "name": "on_crash",
     "kind": "choice",
     "required": false,
     "choices": [
      "destroy",
      "restart",
      "preserve"
     ],
     "description": "When the guest crashes."
    },
    {
     "name": "on_poweroff",
     "kind": "choice",
     "required": false,
     "choices": [
      "destroy",
      "restart",
      "preserve"
     ],
     "description": "When the guest powers off."
    },
    {
     "name": "on_reboot",
     "kind": "choice",
     "required": false,
     "choices": [
      "destroy",
      "restart",
      "preserve"
     ],
     "description": "When the guest reboots."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-memory",
   "noun": "domain",
   "verb": "set-memory",
   "title": "Change how much memory a machine has",
   "description": "Change how much memory a machine has. A running guest's balloon is moved, up to its maximum.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "huge_pages",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "The size of the huge pages its memory is made of, for example 2MiB; 0 for ordinary pages. At the next boot."
    },
    {
     "name": "maximum",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "How much it can be given while it runs; changes at the next boot only."
    },
    {
     "name": "memory",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "How much it has, for example 2GiB: the size of its balloon."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-nic",
   "noun": "domain",
   "verb": "set-nic",
   "title": "Change a network card: its cable, its network, its filter, its bandwidth",
   "description": "Change a network card: its cable, its network, its filter, its bandwidth. Its model changes at the next boot only.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "mac",
     "kind": "text",
     "required": true,
     "description": "Which one: its MAC."
    },
    {
     "name": "bandwidth",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Most bytes in a second, each way, for example 10MiB; 0 for no limit."
    },
    {
     "name": "bridge",
     "kind": "text",
     "required": false,
     "description": "The host's bridge it is on, instead of a network."
    },
    {
     "name": "filter",
     "kind": "text",
     "required": false,
     "description": "The filter its traffic goes through; empty for none."
    },
    {
     "name": "link",
     "kind": "choice",
     "required": false,
     "choices": [
      "up",
      "down"
     ],
     "description": "Whether its cable is in."
    },
    {
     "name": "model",
     "kind": "text",
     "required": false,
     "description": "Its model, for example virtio or e1000."
    },
    {
     "name": "network",
     "kind": "text",
     "required": false,
     "description": "The network it is on."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-screen-password",
   "noun": "domain",
   "verb": "set-screen-password",
   "title": "Change the password of a machine's screen",
   "description": "Change the password of a machine's screen; it is never shown again.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "password",
     "kind": "text",
     "required": true,
     "description": "The password, at most 8 characters for VNC; empty for none."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
  },
  {
   "name": "domain.set-vcpus",
   "noun": "domain",
   "verb": "set-vcpus",
   "title": "Change how many virtual CPUs a machine has",
   "description": "Change how many virtual CPUs a machine has. A running guest can be given more, up to its maximum.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "maximum",
     "kind": "integer",
     "required": false,
     "minimum": 1,
     "maximum": 512,
     "description": "How many it can be given while it runs; changes at the next boot only."
    },
    {
     "name": "vcpus",
     "kind": "integer",
     "required": false,
     "minimum": 1,
     "maximum": 512,
     "description": "How many it has."
    },
    {
     "name": "when",
     "kind": "choice",
     "required": false,
     "default": "both",
     "choices": [
      "now",
      "next-boot",
      "both"
     ],
     "description": "When it applies."
    }
   ],
   "refused": {}
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
     "name": "mode",
     "kind": "choice",
     "required": false,
     "default": "any",
     "choices": [
      "any",
      "acpi",
      "agent"
     ],
     "description": "How it is asked."
    },
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
   "name": "domain.template",
   "noun": "domain",
   "verb": "template",
   "title": "Make a machine that is off a template: it is never started, its disks stay as they are, and clones are made of it",
   "description": "Make a machine that is off a template: it is never started, its disks stay as they are, and clones are made of it.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "enabled",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether it is one; false makes it a machine like any other again."
    }
   ],
   "refused": {
    "paused": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "pmsuspended": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "running": "is not off, and what it writes meanwhile would tear a copy; shut it down first",
    "shutdown": "is not off, and what it writes meanwhile would tear a copy; shut it down first"
   }
  },
  {
   "name": "domain.undefine",
   "noun": "domain",
   "verb": "undefine",
   "title": "Forget the definition of a virtual machine that is off",
   "description": "Forget the definition of a virtual machine that is off. Its disks stay, unless you say which of them go; `domain.volumes` shows them. The variables of a UEFI firmware go with all volumes and stay otherwise; a new machine of that name does not get them.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "delete_volumes",
     "kind": "text",
     "required": false,
     "description": "Delete these of its volumes with it, as POOL/VOLUME with commas between them."
    },
    {
     "name": "with_volumes",
     "kind": "choice",
     "required": false,
     "default": "none",
     "choices": [
      "none",
      "all"
     ],
     "description": "Whether its volumes are deleted with it: none, or all that it alone writes to. One that another machine uses is never deleted."
    }
   ],
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
   "name": "domain.usage",
   "noun": "domain",
   "verb": "usage",
   "title": "Measure how much processor, memory, disk and network a machine takes now",
   "description": "Measure how much processor, memory, disk and network a machine takes now. It takes a second, unless somebody is looking already.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {
    "crashed": "is off and takes nothing",
    "shutoff": "is off and takes nothing"
   }
  },
  {
   "name": "domain.usage-history",
   "noun": "domain",
   "verb": "usage-history",
   "title": "Show what a machine took in the last 24 hours, an average for every five minutes, oldest first",
   "description": "Show what a machine took in the last 24 hours, an average for every five minutes, oldest first. Its host keeps it in memory: it begins anew when archipeld is started and when the machine moves to another host.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "domain.viewers",
   "noun": "domain",
   "verb": "viewers",
   "title": "List who has the screen or the serial line of a virtual machine open",
   "description": "List who has the screen or the serial line of a virtual machine open.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "domain.volumes",
   "noun": "domain",
   "verb": "volumes",
   "title": "List the disks of a virtual machine, the volumes they are, and who else uses those: what may be deleted with it",
   "description": "List the disks of a virtual machine, the volumes they are, and who else uses those: what may be deleted with it.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
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
   "name": "hypervisor.capabilities",
   "noun": "hypervisor",
   "verb": "capabilities",
   "title": "Show what a host is made of: processors and what they can, memory by NUMA cell, machine types, versions, uptime",
   "description": "Show what a host is made of: processors and what they can, memory by NUMA cell, machine types, versions, uptime.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "hypervisor.devices",
   "noun": "hypervisor",
   "verb": "devices",
   "title": "List the devices of a host (PCI, USB, network cards, storage), whether machines may be given them, and which have them",
   "description": "List the devices of a host (PCI, USB, network cards, storage), whether machines may be given them, and which have them.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "kind",
     "kind": "text",
     "required": false,
     "description": "Only those of this kind: pci, usb, net or storage."
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
     "minimum": 1,
     "maximum": 32,
     "description": "How many at a time; without it as many as the host sends at once, which is also the most."
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
   "name": "hypervisor.expel",
   "noun": "hypervisor",
   "verb": "expel",
   "title": "From the exchange: a person's account has changed or is gone",
   "description": "From the exchange: a person's account has changed or is gone. Whatever they have opened with a ticket on this host ends, and tickets that wait are worth nothing; who still may logs in again and opens it anew.",
   "effect": "read",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "person",
     "kind": "text",
     "required": true,
     "description": "The bare JID of the person."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.find-mac",
   "noun": "hypervisor",
   "verb": "find-mac",
   "title": "Say which virtual machine of a host has a network card with a MAC",
   "description": "Say which virtual machine of a host has a network card with a MAC.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "mac",
     "kind": "text",
     "required": true,
     "description": "The MAC."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.find-users",
   "noun": "hypervisor",
   "verb": "find-users",
   "title": "From another host: which of your machines use what lies in these places?",
   "description": "From another host: which of your machines use what lies in these places?",
   "effect": "read",
   "access": "node",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "places",
     "kind": "text",
     "required": true,
     "description": "The places: a list of [`Place`] as JSON."
    },
    {
     "name": "shelved",
     "kind": "text",
     "required": false,
     "description": "The disks of machines that were parked from that host: a list of [`Shelved`] as JSON."
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
   "name": "hypervisor.log",
   "noun": "hypervisor",
   "verb": "log",
   "title": "Show the last lines that the agent of a host logged, oldest first",
   "description": "Show the last lines that the agent of a host logged, oldest first. They are kept in memory, the last 1,000 of this start of archipeld.",
   "effect": "read",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "level",
     "kind": "choice",
     "required": false,
     "default": "info",
     "choices": [
      "error",
      "warn",
      "info",
      "debug"
     ],
     "description": "Only those that matter at least so much."
    },
    {
     "name": "lines",
     "kind": "integer",
     "required": false,
     "default": 100,
     "minimum": 1,
     "maximum": 1000,
     "description": "How many lines."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.look-again",
   "noun": "hypervisor",
   "verb": "look-again",
   "title": "From the exchange: this machine is gone from the host that had it, and you have a copy",
   "description": "From the exchange: this machine is gone from the host that had it, and you have a copy; look whose it is now.",
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
   "name": "hypervisor.maintenance",
   "noun": "hypervisor",
   "verb": "maintenance",
   "title": "Close a host for machines of other hosts, or open it again: nothing is moved, and what runs here goes on",
   "description": "Close a host for machines of other hosts, or open it again: nothing is moved, and what runs here goes on. `hypervisor.drain` closes it and empties it too.",
   "effect": "change",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "enabled",
     "kind": "boolean",
     "required": false,
     "default": true,
     "description": "Whether it is in maintenance."
    }
   ],
   "refused": {}
  },
  {
   "name": "hypervisor.past",
   "noun": "hypervisor",
   "verb": "past",
   "title": "From the host that has a machine now: what became of its definition where it was before",
   "description": "From the host that has a machine now: what became of its definition where it was before. Answers the versions after that one, oldest first, as many as go into one answer; none: there are no more.",
   "effect": "read",
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
     "name": "after",
     "kind": "integer",
     "required": false,
     "default": 0,
     "minimum": 0,
     "description": "The number of the last version that is known already."
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
   "name": "hypervisor.remove-copy",
   "noun": "hypervisor",
   "verb": "remove-copy",
   "title": "Remove the definition of a virtual machine that is off here and belongs to another host, as a move with other tools leaves it",
   "description": "Remove the definition of a virtual machine that is off here and belongs to another host, as a move with other tools leaves it. Its disks stay, and its owner keeps it.",
   "effect": "destroy",
   "access": "admin",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "machine",
     "kind": "text",
     "required": true,
     "description": "Its UUID or name, as this hypervisor lists it under `strangers`."
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
     "description": "Who asked for the move: the bare JID. It may be empty when only what stands in the way is asked."
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
     "name": "role",
     "kind": "choice",
     "required": false,
     "choices": [
      "viewer",
      "admin",
      "admin-raw",
      "node"
     ],
     "description": "What that person may do now: written by the exchange over whatever the asker says ([`vouch`])."
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
     "description": "Who asked for it: the bare JID."
    },
    {
     "name": "way",
     "kind": "text",
     "required": true,
     "description": "How it shall travel: a [`super::Way`] as JSON."
    },
    {
     "name": "role",
     "kind": "choice",
     "required": false,
     "choices": [
      "viewer",
      "admin",
      "admin-raw",
      "node"
     ],
     "description": "What that person may do now: written by the exchange over whatever the asker says ([`vouch`])."
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
   "name": "hypervisor.usage",
   "noun": "hypervisor",
   "verb": "usage",
   "title": "Measure how much processor, memory, disk and network a host and each of its machines take now",
   "description": "Measure how much processor, memory, disk and network a host and each of its machines take now. It takes a second, unless somebody is looking already.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "hypervisor.usage-history",
   "noun": "hypervisor",
   "verb": "usage-history",
   "title": "Show what a host and its machines together took in the last 24 hours, an average for every five minutes, oldest first",
   "description": "Show what a host and its machines together took in the last 24 hours, an average for every five minutes, oldest first. It is kept in memory and begins anew when archipeld is started.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "hypervisor.yield",
   "noun": "hypervisor",
   "verb": "yield",
   "title": "From a host that has this machine without having asked for it, because somebody moved it with other tools: give it up, if it is not with you any more",
   "description": "From a host that has this machine without having asked for it, because somebody moved it with other tools: give it up, if it is not with you any more.",
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
    },
    {
     "name": "off",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "It is off over there: of two definitions that are off, the owner's counts."
    }
   ],
   "refused": {}
  },
  {
   "name": "interface.list",
   "noun": "interface",
   "verb": "list",
   "title": "List the interfaces of a host: its network cards, its bridges and what is on them",
   "description": "List the interfaces of a host: its network cards, its bridges and what is on them.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "kind",
     "kind": "text",
     "required": false,
     "description": "Only those of this kind, for example bridge or ethernet."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.add-host",
   "noun": "network",
   "verb": "add-host",
   "title": "Give a host on a network always the same address, from now on and when the network starts again",
   "description": "Give a host on a network always the same address, from now on and when the network starts again.",
   "effect": "change",
   "access": "admin",
   "target": "network",
   "arguments": [
    {
     "name": "address",
     "kind": "text",
     "required": true,
     "description": "Its address, in the network's subnet."
    },
    {
     "name": "mac",
     "kind": "text",
     "required": true,
     "description": "Its MAC."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Its name in DNS."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.add-name",
   "noun": "network",
   "verb": "add-name",
   "title": "Let a network answer a name in DNS, from now on and when it starts again",
   "description": "Let a network answer a name in DNS, from now on and when it starts again.",
   "effect": "change",
   "access": "admin",
   "target": "network",
   "arguments": [
    {
     "name": "name",
     "kind": "text",
     "required": true,
     "description": "The name: git.lab.example, or a service such as _sip._tcp."
    },
    {
     "name": "value",
     "kind": "text",
     "required": true,
     "description": "An address, a text, or the host and port of a service such as pbx.lab.example:5060."
    },
    {
     "name": "kind",
     "kind": "choice",
     "required": false,
     "default": "host",
     "choices": [
      "host",
      "srv",
      "txt"
     ],
     "description": "The kind of record."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.attached",
   "noun": "network",
   "verb": "attached",
   "title": "List the virtual machines of the host that are on a network, with their network cards",
   "description": "List the virtual machines of the host that are on a network, with their network cards.",
   "effect": "read",
   "access": "viewer",
   "target": "network",
   "arguments": [],
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
   "name": "network.define",
   "noun": "network",
   "verb": "define",
   "title": "Define a new network on a hypervisor",
   "description": "Define a new network on a hypervisor. It is not started, unless you ask for that too.",
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
     "name": "address",
     "kind": "text",
     "required": false,
     "description": "The host's own address on it with the length of its prefix, for example 192.168.100.1/24."
    },
    {
     "name": "autostart",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Let it start with its host."
    },
    {
     "name": "bridge",
     "kind": "text",
     "required": false,
     "description": "The bridge of the host that it uses (bridge, ovs), or a name for the one that is made; without it libvirt finds one."
    },
    {
     "name": "dhcp_end",
     "kind": "text",
     "required": false,
     "description": "The last address that is given out by DHCP."
    },
    {
     "name": "dhcp_start",
     "kind": "text",
     "required": false,
     "description": "The first address that is given out by DHCP."
    },
    {
     "name": "domain",
     "kind": "text",
     "required": false,
     "description": "The domain in DNS that its machines are in, for example lab.example.org."
    },
    {
     "name": "inbound",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Bytes in a second that all its machines together may get, for example 10MiB."
    },
    {
     "name": "mode",
     "kind": "choice",
     "required": false,
     "default": "nat",
     "choices": [
      "nat",
      "isolated",
      "route",
      "open",
      "bridge",
      "ovs"
     ],
     "description": "How what is on it reaches what is beyond it."
    },
    {
     "name": "outbound",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Bytes in a second that all its machines together may send."
    },
    {
     "name": "start",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Start it too."
    },
    {
     "name": "vlan",
     "kind": "integer",
     "required": false,
     "minimum": 0,
     "maximum": 65535,
     "description": "The VLAN that its machines are on, 1 to 4094 (bridge, ovs)."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.hosts",
   "noun": "network",
   "verb": "hosts",
   "title": "List the hosts that always get the same address on a network",
   "description": "List the hosts that always get the same address on a network.",
   "effect": "read",
   "access": "viewer",
   "target": "network",
   "arguments": [],
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
   "name": "network.leases",
   "noun": "network",
   "verb": "leases",
   "title": "List the addresses that a network has given out by DHCP",
   "description": "List the addresses that a network has given out by DHCP.",
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
   "name": "network.names",
   "noun": "network",
   "verb": "names",
   "title": "List the names that a network answers in DNS beside those of its machines",
   "description": "List the names that a network answers in DNS beside those of its machines.",
   "effect": "read",
   "access": "viewer",
   "target": "network",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "network.remove-host",
   "noun": "network",
   "verb": "remove-host",
   "title": "Let a host on a network have any address again",
   "description": "Let a host on a network have any address again.",
   "effect": "change",
   "access": "admin",
   "target": "network",
   "arguments": [
    {
     "name": "which",
     "kind": "text",
     "required": true,
     "description": "Which one: its MAC, its address or its name."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.remove-name",
   "noun": "network",
   "verb": "remove-name",
   "title": "Let a network answer a name in DNS no more",
   "description": "Let a network answer a name in DNS no more.",
   "effect": "change",
   "access": "admin",
   "target": "network",
   "arguments": [
    {
     "name": "name",
     "kind": "text",
     "required": true,
     "description": "The name."
    },
    {
     "name": "kind",
     "kind": "choice",
     "required": false,
     "default": "host",
     "choices": [
      "host",
      "srv",
      "txt"
     ],
     "description": "The kind of record."
    },
    {
     "name": "value",
     "kind": "text",
     "required": false,
     "description": "Only the record with this value: a service may be at several hosts."
    }
   ],
   "refused": {}
  },
  {
   "name": "network.set-range",
   "noun": "network",
   "verb": "set-range",
   "title": "Change which addresses a network gives out by DHCP, from now on and when it starts again",
   "description": "Change which addresses a network gives out by DHCP, from now on and when it starts again. Refused while a machine has one that would not be given out any more.",
   "effect": "change",
   "access": "admin",
   "target": "network",
   "arguments": [
    {
     "name": "first",
     "kind": "text",
     "required": true,
     "description": "The first address that is given out."
    },
    {
     "name": "last",
     "kind": "text",
     "required": true,
     "description": "The last address that is given out."
    },
    {
     "name": "add",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Give them out beside those that are given out already, instead of those."
    },
    {
     "name": "drop_leases",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Also when machines have addresses that are not among them: they get others when their leases end."
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
   "name": "network.undefine",
   "noun": "network",
   "verb": "undefine",
   "title": "Forget the definition of a network",
   "description": "Forget the definition of a network. It is stopped first; refused while a virtual machine is on it, running or not.",
   "effect": "destroy",
   "access": "admin",
   "target": "network",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "network.xml",
   "noun": "network",
   "verb": "xml",
   "title": "Show the definition of a network in libvirt's XML",
   "description": "Show the definition of a network in libvirt's XML.",
   "effect": "read",
   "access": "viewer",
   "target": "network",
   "arguments": [
    {
     "name": "inactive",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "The definition for the next start instead of the active one."
    }
   ],
   "refused": {}
  },
  {
   "name": "nwfilter.list",
   "noun": "nwfilter",
   "verb": "list",
   "title": "List the network filters of a hypervisor",
   "description": "List the network filters of a hypervisor.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "nwfilter.xml",
   "noun": "nwfilter",
   "verb": "xml",
   "title": "Show a network filter in libvirt's XML",
   "description": "Show a network filter in libvirt's XML.",
   "effect": "read",
   "access": "viewer",
   "target": "hypervisor",
   "arguments": [
    {
     "name": "nwfilter",
     "kind": "text",
     "required": true,
     "description": "Its name."
    }
   ],
   "refused": {}
  },
  {
   "name": "snapshot.create",
   "noun": "snapshot",
   "verb": "create",
   "title": "Take a snapshot of a virtual machine: of its disks and, while it runs, of its memory",
   "description": "Take a snapshot of a virtual machine: of its disks and, while it runs, of its memory.",
   "effect": "change",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "description",
     "kind": "text",
     "required": false,
     "description": "What to remember about it."
    },
    {
     "name": "external",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Let the disks go on in new files instead of keeping the snapshot inside them. Quick, works for raw disks too, and takes the disks alone."
    },
    {
     "name": "name",
     "kind": "text",
     "required": false,
     "description": "Its name: letters, digits and . _ + - (at most 64). Without one it is named after the time."
    },
    {
     "name": "quiesce",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Have the guest agent write everything to the disks first. Only for external snapshots of a running machine."
    }
   ],
   "refused": {
    "pmsuspended": "sleeps; resume it first",
    "shutdown": "is going down; wait until it is off"
   }
  },
  {
   "name": "snapshot.delete",
   "noun": "snapshot",
   "verb": "delete",
   "title": "Delete a snapshot",
   "description": "Delete a snapshot. The machine and its other snapshots stay as they are.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "snapshot",
     "kind": "text",
     "required": true,
     "description": "The name of the snapshot."
    },
    {
     "name": "children",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Delete all that were made after it as well."
    }
   ],
   "refused": {}
  },
  {
   "name": "snapshot.list",
   "noun": "snapshot",
   "verb": "list",
   "title": "List the snapshots of a virtual machine, oldest first",
   "description": "List the snapshots of a virtual machine, oldest first.",
   "effect": "read",
   "access": "viewer",
   "target": "domain",
   "arguments": [],
   "refused": {}
  },
  {
   "name": "snapshot.revert",
   "noun": "snapshot",
   "verb": "revert",
   "title": "Go back to a snapshot",
   "description": "Go back to a snapshot. What the machine is now is lost unless it is kept in a snapshot first.",
   "effect": "destroy",
   "access": "admin",
   "target": "domain",
   "arguments": [
    {
     "name": "snapshot",
     "kind": "text",
     "required": true,
     "description": "The name of the snapshot."
    },
    {
     "name": "discard",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Lose what the machine is now."
    },
    {
     "name": "keep_as",
     "kind": "text",
     "required": false,
     "description": "Take a snapshot of this name first, so that nothing is lost."
    }
   ],
   "refused": {
    "pmsuspended": "sleeps; resume it first",
    "shutdown": "is going down; wait until it is off"
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
   "name": "storage-pool.build",
   "noun": "storage-pool",
   "verb": "build",
   "title": "Make the place of a storage pool: the directory, the file system, the volume group",
   "description": "Make the place of a storage pool: the directory, the file system, the volume group. A pool that was just defined needs it once.",
   "effect": "destroy",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "overwrite",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Make it even where something else is already: a file system or volume group that is there is lost."
    }
   ],
   "refused": {
    "building": "is started; stop it first",
    "degraded": "is started; stop it first",
    "inaccessible": "is started; stop it first",
    "running": "is started; stop it first"
   }
  },
  {
   "name": "storage-pool.define",
   "noun": "storage-pool",
   "verb": "define",
   "title": "Define a new storage pool on a hypervisor",
   "description": "Define a new storage pool on a hypervisor. Nothing is made or mounted, unless you ask for that too.",
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
     "name": "auth_secret",
     "kind": "text",
     "required": false,
     "description": "The UUID of libvirt's secret for that user."
    },
    {
     "name": "auth_user",
     "kind": "text",
     "required": false,
     "description": "The user it is opened as (rbd, iscsi); the secret is libvirt's."
    },
    {
     "name": "autostart",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Let it start with its host."
    },
    {
     "name": "build",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Make its place too."
    },
    {
     "name": "path",
     "kind": "text",
     "required": false,
     "description": "Where it is on the host: the directory, or where a file system is mounted."
    },
    {
     "name": "source_device",
     "kind": "text",
     "required": false,
     "description": "The device it lies on (fs), the devices to make it of, with commas (logical, zfs), or the target's name (iscsi)."
    },
    {
     "name": "source_dir",
     "kind": "text",
     "required": false,
     "description": "The directory it comes from on the other host (netfs)."
    },
    {
     "name": "source_format",
     "kind": "text",
     "required": false,
     "description": "The format: ext4, xfs and others (fs), nfs, cifs or glusterfs (netfs)."
    },
    {
     "name": "source_host",
     "kind": "text",
     "required": false,
     "description": "The other host it comes from: netfs, iscsi, and a monitor of Ceph for rbd; with :PORT if need be."
    },
    {
     "name": "source_name",
     "kind": "text",
     "required": false,
     "description": "The volume group (logical), Ceph's pool (rbd), the data set (zfs) or the adapter such as host0 (scsi)."
    },
    {
     "name": "start",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Start it too."
    },
    {
     "name": "type",
     "kind": "choice",
     "required": false,
     "default": "dir",
     "choices": [
      "dir",
      "fs",
      "netfs",
      "logical",
      "iscsi",
      "rbd",
      "zfs",
      "scsi"
     ],
     "description": "What kind of place it is."
    }
   ],
   "refused": {}
  },
  {
   "name": "storage-pool.delete",
   "noun": "storage-pool",
   "verb": "delete",
   "title": "Remove the place of a storage pool",
   "description": "Remove the place of a storage pool. It must be empty, or its volumes go with it if you say so. Its definition stays.",
   "effect": "destroy",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "with_volumes",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Delete all its volumes first; refused while a machine uses one of them."
    }
   ],
   "refused": {
    "inactive": "is not started; start it, so that it can be seen whether anything is in it"
   }
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
   "name": "storage-pool.orphans",
   "noun": "storage-pool",
   "verb": "orphans",
   "title": "List the volumes of a storage pool that no machine uses and nothing that is used is built on",
   "description": "List the volumes of a storage pool that no machine uses and nothing that is used is built on. Media to install from are not told.",
   "effect": "read",
   "access": "viewer",
   "target": "storage-pool",
   "arguments": [],
   "refused": {
    "inactive": "is not started"
   }
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
   "name": "storage-pool.undefine",
   "noun": "storage-pool",
   "verb": "undefine",
   "title": "Forget the definition of a storage pool that is stopped",
   "description": "Forget the definition of a storage pool that is stopped. Nothing in it is deleted.",
   "effect": "destroy",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [],
   "refused": {
    "building": "is started; stop it first",
    "degraded": "is started; stop it first",
    "inaccessible": "is started; stop it first",
    "running": "is started; stop it first"
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
   "name": "volume.clone",
   "noun": "volume",
   "verb": "clone",
   "title": "Copy a volume within its pool, or to another pool of the same host, and follow it until it is whole",
   "description": "Copy a volume within its pool, or to another pool of the same host, and follow it until it is whole.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool."
    },
    {
     "name": "to",
     "kind": "text",
     "required": true,
     "description": "The name of the copy."
    },
    {
     "name": "pool",
     "kind": "text",
     "required": false,
     "description": "The pool the copy shall be in; its own when not given."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.convert",
   "noun": "volume",
   "verb": "convert",
   "title": "Write a volume anew in another format, and follow it",
   "description": "Write a volume anew in another format, and follow it. libvirt cannot change a format: it is copied, and the copy takes its place when it is whole.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool."
    },
    {
     "name": "format",
     "kind": "choice",
     "required": true,
     "choices": [
      "raw",
      "qcow2"
     ],
     "description": "The format it shall have."
    },
    {
     "name": "to",
     "kind": "text",
     "required": false,
     "description": "Leave it as it is and give what is converted this name."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.create",
   "noun": "volume",
   "verb": "create",
   "title": "Make a new, empty volume in a storage pool",
   "description": "Make a new, empty volume in a storage pool.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool: letters, digits and . _ + - (at most 200)."
    },
    {
     "name": "backing",
     "kind": "text",
     "required": false,
     "description": "The volume it is built on, as POOL/VOLUME; it holds only what differs from that (qcow2 only)."
    },
    {
     "name": "capacity",
     "kind": "bytes",
     "required": false,
     "minimum": 0,
     "description": "Its size as the guest sees it, for example 20GiB; without one it is as large as the volume it is built on."
    },
    {
     "name": "format",
     "kind": "choice",
     "required": false,
     "default": "qcow2",
     "choices": [
      "raw",
      "qcow2"
     ],
     "description": "How it is written."
    },
    {
     "name": "preallocation",
     "kind": "choice",
     "required": false,
     "default": "none",
     "choices": [
      "none",
      "metadata",
      "full"
     ],
     "description": "What of it is taken from the pool at once."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.delete",
   "noun": "volume",
   "verb": "delete",
   "title": "Delete a volume that no machine uses, and all that is on it",
   "description": "Delete a volume that no machine uses, and all that is on it.",
   "effect": "destroy",
   "access": "admin",
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
   "name": "volume.download",
   "noun": "volume",
   "verb": "download",
   "title": "Ask for a ticket to fetch the contents of a volume over HTTP",
   "description": "Ask for a ticket to fetch the contents of a volume over HTTP.",
   "effect": "read",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool."
    },
    {
     "name": "proof",
     "kind": "text",
     "required": true,
     "description": "The SHA-256 of a secret of the client, in base64url; the ticket opens only together with that secret."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
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
   "arguments": [
    {
     "name": "kind",
     "kind": "choice",
     "required": false,
     "default": "all",
     "choices": [
      "all",
      "disk",
      "iso"
     ],
     "description": "Which ones: all, disks, or media to install from."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.rename",
   "noun": "volume",
   "verb": "rename",
   "title": "Give a volume that no machine uses another name in its pool",
   "description": "Give a volume that no machine uses another name in its pool.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool."
    },
    {
     "name": "to",
     "kind": "text",
     "required": true,
     "description": "Its new name."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.resize",
   "noun": "volume",
   "verb": "resize",
   "title": "Change the size of a volume that no running machine uses",
   "description": "Change the size of a volume that no running machine uses. The guest's file system does not grow by itself.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool."
    },
    {
     "name": "capacity",
     "kind": "bytes",
     "required": true,
     "minimum": 0,
     "description": "Its new size, for example 40GiB."
    },
    {
     "name": "shrink",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Let it become smaller: whatever the guest has written beyond the new size is lost."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.upload",
   "noun": "volume",
   "verb": "upload",
   "title": "Ask for a ticket to send the contents of a new volume over HTTP",
   "description": "Ask for a ticket to send the contents of a new volume over HTTP. What comes is kept as it is, whatever its format; what is cut off can be gone on with.",
   "effect": "change",
   "access": "admin",
   "target": "storage-pool",
   "arguments": [
    {
     "name": "volume",
     "kind": "text",
     "required": true,
     "description": "Its name in the pool: letters, digits and . _ + - (at most 200)."
    },
    {
     "name": "proof",
     "kind": "text",
     "required": true,
     "description": "The SHA-256 of a secret of the client, in base64url; the ticket opens only together with that secret."
    },
    {
     "name": "resume",
     "kind": "boolean",
     "required": false,
     "default": false,
     "description": "Go on with an upload that was cut off, instead of beginning anew."
    }
   ],
   "refused": {
    "inactive": "is not started"
   }
  },
  {
   "name": "volume.users",
   "noun": "volume",
   "verb": "users",
   "title": "List the virtual machines that use a volume, on whichever host they are",
   "description": "List the virtual machines that use a volume, on whichever host they are; those included whose disks are built on it.",
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
   "name": "volume.wipe",
   "noun": "volume",
   "verb": "wipe",
   "title": "Overwrite the content of a volume that no machine uses, so that nobody can read it any more",
   "description": "Overwrite the content of a volume that no machine uses, so that nobody can read it any more. A sparse file is emptied, not overwritten. It cannot be stopped half-way.",
   "effect": "destroy",
   "access": "admin",
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
  }
 ],
 "events": {
  "domain.added": "a machine appeared: it was defined, or found when control began",
  "domain.agent-connected": "the guest agent answers",
  "domain.agent-disconnected": "the guest agent does not answer any more",
  "domain.backups": "a backup of it was made, or it was taken back to one",
  "domain.block-job": "a job on one of its disks went on or ended",
  "domain.changed": "its definition, name, note or another fact changed",
  "domain.console-closed": "somebody left its screen or serial line",
  "domain.console-opened": "somebody opened its screen or serial line through Archipel",
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
  "domain.not-started": "it was to start with its host and did not; why is told beside it",
  "domain.parked": "it was taken from its host and lies on the cell's shelf",
  "domain.paused": "its virtual CPUs stand still",
  "domain.rebooted": "the guest rebooted",
  "domain.resumed": "its virtual CPUs go on",
  "domain.shutting-down": "the guest is going down by itself",
  "domain.snapshots": "a snapshot of it was taken, gone back to or deleted",
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
  "storage-pool.volumes-changed": "a volume in it was made, changed or deleted",
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
