// How a state looks: tone and glyph beside its word, never a tone alone.
import type { Entity, Kind } from '../domain/entity';
import type { IconName } from './Icon.svelte';

export type Tone = 'ok' | 'warn' | 'off' | 'bad' | 'busy';
export interface Look {
  tone: Tone;
  glyph: IconName;
}

const LOOKS: Record<string, Look> = {
  running: { tone: 'ok', glyph: 'play' },
  connected: { tone: 'ok', glyph: 'check' },
  active: { tone: 'ok', glyph: 'check' },
  available: { tone: 'ok', glyph: 'check' },
  done: { tone: 'ok', glyph: 'check' },
  paused: { tone: 'warn', glyph: 'pause' },
  degraded: { tone: 'warn', glyph: 'warn' },
  pmsuspended: { tone: 'warn', glyph: 'moon' },
  shutdown: { tone: 'busy', glyph: 'half' },
  connecting: { tone: 'busy', glyph: 'half' },
  building: { tone: 'busy', glyph: 'half' },
  shutoff: { tone: 'off', glyph: 'stop' },
  inactive: { tone: 'off', glyph: 'stop' },
  cancelled: { tone: 'off', glyph: 'stop' },
  crashed: { tone: 'bad', glyph: 'cross' },
  lost: { tone: 'bad', glyph: 'cross' },
  failed: { tone: 'bad', glyph: 'cross' },
  inaccessible: { tone: 'bad', glyph: 'cross' },
  unknown: { tone: 'off', glyph: 'question' },
};

export const KIND_ICON: Record<Kind, IconName> = { hypervisor: 'host', domain: 'vm', network: 'network', 'storage-pool': 'pool', task: 'task' };

/** The look of an entity's state. A running storage pool or task is not a running machine. */
export function lookOf(e: Pick<Entity, 'kind' | 'state'>): Look {
  if (e.state === 'running' && e.kind === 'task') return { tone: 'busy', glyph: 'half' };
  if (e.state === 'running' && e.kind === 'storage-pool') return { tone: 'ok', glyph: 'check' };
  return LOOKS[e.state] ?? { tone: 'off', glyph: 'ring' };
}

/** Glyphs of commands on buttons. */
export const VERB_ICON: Record<string, IconName> = {
  start: 'play',
  shutdown: 'power',
  reboot: 'reboot',
  pause: 'pause',
  resume: 'play',
  'force-off': 'bolt',
  reset: 'reboot',
  stop: 'stop',
  refresh: 'reboot',
  cancel: 'cross',
};
