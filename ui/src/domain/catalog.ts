// What can be asked of an entity, whether it may be asked now, and why not. Pure: reads the generated catalog only.
import { catalog } from './contract.gen';
import type { Entity, Kind } from './entity';

export type Effect = 'read' | 'change' | 'destroy';
export type ArgumentKind = 'text' | 'integer' | 'bytes' | 'boolean' | 'choice';

/** One argument of a command, as the catalog says. */
export interface Argument {
  name: string;
  kind: ArgumentKind | string;
  required: boolean;
  default?: unknown;
  choices?: string[];
  minimum?: number;
  maximum?: number;
  description: string;
}

/** One command, with the states in which it is refused and the reason. */
export interface CommandEntry {
  name: string;
  noun: string;
  verb: string;
  title: string;
  description: string;
  effect: Effect | string;
  access: string;
  target: string;
  arguments: Argument[];
  refused: Record<string, string>;
}

export interface Catalog {
  commands: CommandEntry[];
  events: Record<string, string>;
  states: Record<string, string[]>;
}

const byName = new Map(catalog.commands.map((c) => [c.name, c]));

/** The command with that name. */
export const command = (name: string): CommandEntry | undefined => byName.get(name);

/** The buttons every entity of a kind shows, most used first. */
const MAIN: Record<Kind, string[]> = {
  hypervisor: [],
  domain: ['start', 'shutdown', 'reboot', 'pause', 'resume', 'force-off', 'reset'].map((v) => `domain.${v}`),
  network: ['network.start', 'network.stop'],
  'storage-pool': ['storage-pool.start', 'storage-pool.stop', 'storage-pool.refresh'],
  task: ['task.cancel'],
};

/** The commands that are buttons. */
export function mainCommands(kind: Kind): CommandEntry[] {
  return MAIN[kind].map((n) => byName.get(n)).filter((c) => c !== undefined);
}

/** What has a panel of its own: a form would ask for a proof that only a program can make. */
const PANELS = ['domain.console'];

/** All other commands of the kind, reached through a form. */
export function moreCommands(kind: Kind): CommandEntry[] {
  return catalog.commands.filter((c) => c.target === kind && c.access !== 'node' && !PANELS.includes(c.name) && !MAIN[kind].includes(c.name));
}

/** Whether a command may be sent to this entity now. */
export type Verdict = { allowed: true } | { allowed: false; reason: string };

const allowed: Verdict = { allowed: true };

/** The noun's policy by the entity's state. Reading is never refused here: the server answers what it can. */
export function mayRun(entry: CommandEntry, entity: Entity): Verdict {
  if (entity.condition === 'unreachable' || entity.condition === 'control-lost') {
    if (entry.effect === 'read') return allowed;
    const reason = entity.why ?? (entity.condition === 'unreachable' ? 'its agent does not answer' : 'libvirt on its host does not answer');
    return { allowed: false, reason: `cannot be controlled now: ${reason}` };
  }
  const reason = entry.refused[entity.state];
  return reason === undefined ? allowed : { allowed: false, reason };
}
