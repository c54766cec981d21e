// What the tables show of each kind.
import { localPart, numberFact, textFact, type Entity, type Kind } from '../domain/entity';
import { formatBytes, formatTime } from '../domain/units';
import { formatCpu } from '../domain/usage';
import { command } from '../domain/catalog';
import { verbWord, type Key } from '../i18n/t';
import type { App } from '../store/app.svelte';

export interface Column {
  key: string;
  label: Key;
  /** A grid track, and the least width in pixels. */
  width: string;
  least: number;
  right?: boolean;
  text: (e: Entity, app: App) => string;
  /** What it sorts by; the name when absent. */
  order?: (e: Entity) => number | string;
}

const bytes = (e: Entity, key: string) => {
  const n = numberFact(e, key);
  return n === undefined || n === 0 ? '–' : formatBytes(n);
};
const number = (e: Entity, key: string) => String(numberFact(e, key) ?? '–');

const state: Column = { key: 'state', label: 'column.state', width: 'minmax(136px, 0.7fr)', least: 136, text: (e) => e.state, order: (e) => e.state };
const name: Column = { key: 'name', label: 'column.name', width: 'minmax(120px, 1.6fr)', least: 120, text: (e) => e.name };
/** Where it is, and whither it is being moved. */
const place: Column = {
  key: 'host',
  label: 'column.host',
  width: 'minmax(76px, 0.7fr)',
  least: 76,
  text: (e) => e.host + (textFact(e, 'moving_to') ? ` → ${textFact(e, 'moving_to')}` : ''),
  order: (e) => e.host,
};
const host: Column = { key: 'host', label: 'column.host', width: 'minmax(76px, 0.7fr)', least: 76, text: (e) => e.host, order: (e) => e.host };
const text = (key: string, label: Key, track = 'minmax(84px, 1fr)'): Column => ({
  key,
  label,
  width: track,
  least: 84,
  text: (e) => (textFact(e, key) ?? '').split('\n', 1)[0] ?? '',
  order: (e) => textFact(e, key) ?? '',
});

/** What it takes of the processors now. */
const cpu: Column = {
  key: 'cpu',
  label: 'column.cpu',
  width: '72px',
  least: 72,
  right: true,
  text: (e, app) => {
    const used = app.usageOf(e.jid)?.cpu;
    return used === undefined ? '–' : formatCpu(used);
  },
};

/** What a task works on, by name where we know it. */
export function targetName(e: Entity, app: App): string {
  const local = textFact(e, 'target') ?? '';
  return app.store.get(`${local}@${e.jid.slice(e.jid.indexOf('@') + 1)}`)?.name ?? local;
}

/** What a task does, in the words of the buttons. */
export function taskWord(e: Entity): string {
  const entry = command(textFact(e, 'command') ?? '');
  return entry ? verbWord(entry) : (textFact(e, 'command') ?? localPart(e.jid));
}

export const COLUMNS: Record<Kind, Column[]> = {
  domain: [
    state,
    name,
    place,
    { key: 'vcpus', label: 'column.vcpus', width: '64px', least: 64, right: true, text: (e) => number(e, 'vcpus'), order: (e) => numberFact(e, 'vcpus') ?? 0 },
    cpu,
    { key: 'memory', label: 'column.memory', width: '88px', least: 88, right: true, text: (e) => bytes(e, 'memory'), order: (e) => numberFact(e, 'memory') ?? 0 },
    text('note', 'column.note', 'minmax(84px, 1.4fr)'),
  ],
  hypervisor: [
    state,
    name,
    text('driver', 'column.driver', 'minmax(84px, 0.6fr)'),
    text('acceleration', 'column.acceleration', 'minmax(84px, 0.6fr)'),
    { key: 'machines', label: 'column.machines', width: '84px', least: 84, right: true, text: (e, app) => { app.live.on('members'); return String(app.store.onHost('domain', e.host).length); } },
    { key: 'cpus', label: 'column.cpus', width: '64px', least: 64, right: true, text: (e) => number(e, 'cpus'), order: (e) => numberFact(e, 'cpus') ?? 0 },
    cpu,
    { key: 'memory', label: 'column.memory', width: '88px', least: 88, right: true, text: (e) => bytes(e, 'memory'), order: (e) => numberFact(e, 'memory') ?? 0 },
  ],
  network: [state, name, host, text('forward', 'column.forward'), text('bridge', 'column.bridge')],
  'storage-pool': [
    state,
    name,
    host,
    text('type', 'column.type', '84px'),
    { key: 'allocation', label: 'column.usage', width: '88px', least: 88, right: true, text: (e) => bytes(e, 'allocation'), order: (e) => numberFact(e, 'allocation') ?? 0 },
    { key: 'capacity', label: 'column.capacity', width: '88px', least: 88, right: true, text: (e) => bytes(e, 'capacity'), order: (e) => numberFact(e, 'capacity') ?? 0 },
    text('path', 'column.path', 'minmax(84px, 1.4fr)'),
  ],
  task: [
    state,
    { key: 'command', label: 'column.command', width: 'minmax(120px, 1fr)', least: 120, text: taskWord, order: taskWord },
    { key: 'target', label: 'column.target', width: 'minmax(84px, 1fr)', least: 84, text: targetName },
    host,
    { key: 'percent', label: 'column.progress', width: '76px', least: 76, right: true, text: (e) => (numberFact(e, 'percent') === undefined ? '' : `${numberFact(e, 'percent')} %`), order: (e) => numberFact(e, 'percent') ?? -1 },
    text('message', 'column.message', 'minmax(84px, 1.6fr)'),
    { key: 'started', label: 'column.started', width: '168px', least: 168, text: (e) => formatTime(textFact(e, 'started') ?? ''), order: (e) => textFact(e, 'started') ?? '' },
  ],
};

/** The addresses in the order of a column; the given order is by name. */
export function ordered(jids: readonly string[], sort: string, kind: Kind, get: (jid: string) => Entity | undefined): readonly string[] {
  if (sort === '') return kind === 'task' ? ordered(jids, '-started', kind, get) : jids;
  const down = sort.startsWith('-');
  const column = COLUMNS[kind].find((c) => c.key === (down ? sort.slice(1) : sort));
  if (!column) return jids;
  const key = column.order;
  if (!key) return down ? [...jids].reverse() : jids;
  const pairs = jids.map((jid) => {
    const e = get(jid);
    return { jid, key: e ? key(e) : '' };
  });
  const sign = down ? -1 : 1;
  pairs.sort((a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : 0));
  return pairs.map((p) => p.jid);
}
