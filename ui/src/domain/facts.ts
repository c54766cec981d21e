// All facts of an entity as rows of key and text, whatever its kind: a fact we have no word for yet is shown too.
import type { Entity } from './entity';
import { formatBytes, formatTime } from './units';

export interface FactRow {
  key: string;
  value: string | boolean;
}

const BYTES = new Set(['memory', 'capacity', 'allocation', 'available']);
const TIMES = new Set(['since', 'started', 'ended']);
/** Shown elsewhere or in another form. */
const HIDDEN = new Set(['libvirt_state', 'link', 'progress_state', 'note']);

/** Key and text of one value. */
export function formatFact(key: string, value: unknown): string | boolean {
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number' && BYTES.has(key)) return formatBytes(value);
  if (typeof value === 'string' && TIMES.has(key)) return formatTime(value);
  if (typeof value === 'object' && value !== null) {
    const fault = value as { message?: unknown; cause?: unknown };
    if (typeof fault.message === 'string') return fault.cause ? `${fault.message} (${String(fault.cause)})` : fault.message;
    return JSON.stringify(value);
  }
  return String(value);
}

/** The rows in the order the server gave them, identity last. */
export function factRows(e: Entity): FactRow[] {
  const rows = Object.entries(e.facts)
    .filter(([key, value]) => !HIDDEN.has(key) && value !== null && value !== undefined && value !== '')
    .map(([key, value]) => ({ key, value: formatFact(key, value) }));
  const identity: FactRow[] = [
    { key: 'host', value: e.host },
    { key: 'since', value: formatTime(e.since) },
    { key: 'id', value: e.id },
    { key: 'jid', value: e.jid },
    { key: 'version', value: `${e.epoch} / ${e.seq}` },
  ];
  return [...rows, ...identity.filter((r) => r.value !== '' && !(e.kind === 'hypervisor' && (r.key === 'host' || r.key === 'id')))];
}
