// The tree as a flat list of visible rows: hypervisors, the groups below them, and what is in the groups.
import { localPart, type Entity, type Kind } from '../domain/entity';
import type { Store } from '../store/store';

export interface TreeRow {
  id: string;
  level: 1 | 2 | 3;
  position: number;
  size: number;
  /** Whether it is open; undefined when it has nothing below. */
  open: boolean | undefined;
  /** An entity's address, or undefined for a group. */
  jid: string | undefined;
  group: Kind | undefined;
  count: number;
}

const GROUPS: Kind[] = ['network', 'storage-pool', 'domain'];

/** Groups and hosts are remembered by whether a person changed what they are by default: only machines are open. */
export const isOpen = (id: string, changed: ReadonlySet<string>): boolean => {
  const byDefault = !id.includes('/') || id.endsWith('/domain');
  return changed.has(id) ? !byDefault : byDefault;
};

/** The visible rows. A filter opens everything and keeps what fits by name, with its parents. */
export function treeRows(store: Store, changed: ReadonlySet<string>, filter: string): TreeRow[] {
  const word = filter.trim().toLowerCase();
  const fits = (e: Entity | undefined) => e !== undefined && (word === '' || e.name.toLowerCase().includes(word) || e.id.includes(word));
  const rows: TreeRow[] = [];
  for (const jid of store.sorted('hypervisor')) {
    const hv = store.get(jid);
    if (!hv) continue;
    const whole = word !== '' && fits(hv);
    const groups = GROUPS.map((kind) => {
      const all = store.onHost(kind, hv.host);
      return { kind, members: word === '' || whole ? all : all.filter((j) => fits(store.get(j))) };
    }).filter((g) => g.members.length > 0);
    if (word !== '' && !whole && groups.length === 0) continue;
    const id = localPart(jid);
    const open = word !== '' ? true : isOpen(id, changed);
    rows.push({ id, level: 1, position: 0, size: 0, open: groups.length > 0 ? open : undefined, jid, group: undefined, count: 0 });
    if (!open) continue;
    groups.forEach((g, i) => {
      const groupId = `${id}/${g.kind}`;
      const groupOpen = word !== '' ? true : isOpen(groupId, changed);
      rows.push({ id: groupId, level: 2, position: i + 1, size: groups.length, open: groupOpen, jid: undefined, group: g.kind, count: g.members.length });
      if (!groupOpen) return;
      g.members.forEach((member, n) => {
        rows.push({ id: localPart(member), level: 3, position: n + 1, size: g.members.length, open: undefined, jid: member, group: undefined, count: 0 });
      });
    });
  }
  const tops = rows.filter((r) => r.level === 1);
  tops.forEach((r, i) => Object.assign(r, { position: i + 1, size: tops.length }));
  return rows;
}

/** The index of the row above that holds this one, or -1. */
export function parentIndex(rows: readonly TreeRow[], index: number): number {
  const level = rows[index]?.level ?? 1;
  for (let i = index - 1; i >= 0; i--) if ((rows[i]?.level ?? 1) < level) return i;
  return -1;
}
