// The address of the page is its state: view, filter, order, selection and tab. Back and reload come for free.
import { KINDS, type Kind } from './domain/entity';

export const TABS = ['overview', 'console', 'volumes', 'commands', 'chat'] as const;
export type Tab = (typeof TABS)[number];

export interface Route {
  kind: Kind;
  /** The local part of the selected entity's address. */
  selected: string | undefined;
  tab: Tab;
  /** The command whose form is open. */
  command: string | undefined;
  filter: string;
  /** Column, with a minus for descending; empty for the name. */
  sort: string;
}

export const PATHS: Record<Kind, string> = {
  domain: '/vms',
  hypervisor: '/hypervisors',
  network: '/networks',
  'storage-pool': '/storage',
  task: '/tasks',
};

export function parseRoute(url: URL): Route {
  const kind = KINDS.find((k) => PATHS[k] === url.pathname) ?? 'domain';
  const p = url.searchParams;
  return {
    kind,
    selected: p.get('sel') ?? undefined,
    tab: TABS.find((t) => t === p.get('tab')) ?? 'overview',
    command: p.get('cmd') ?? undefined,
    filter: p.get('q') ?? '',
    sort: p.get('sort') ?? '',
  };
}

export function formatRoute(r: Route): string {
  const p = new URLSearchParams();
  if (r.filter) p.set('q', r.filter);
  if (r.sort) p.set('sort', r.sort);
  if (r.selected) {
    p.set('sel', r.selected);
    if (r.tab !== 'overview') p.set('tab', r.tab);
    if (r.command) p.set('cmd', r.command);
  }
  const query = p.toString();
  return PATHS[r.kind] + (query ? `?${query}` : '');
}

/** The kind an address is of, by its local part. */
export function kindOfLocal(local: string): Kind {
  if (local.startsWith('hv.')) return 'hypervisor';
  if (local.startsWith('net.')) return 'network';
  if (local.startsWith('pool.')) return 'storage-pool';
  return local.startsWith('task.') ? 'task' : 'domain';
}
