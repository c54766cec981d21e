// Keys that work everywhere on the page.
import type { Kind } from '../domain/entity';

/** The parts F6 goes through. */
export const REGIONS = ['tree', 'list', 'detail', 'tasks'] as const;

const GO: Record<string, Kind> = { v: 'domain', h: 'hypervisor', n: 'network', s: 'storage-pool', t: 'task' };

/** Where `g` and then this key leads. */
export const goTarget = (key: string): Kind | undefined => GO[key];

/** Whether a key belongs to a field. */
export const isTyping = (target: EventTarget | null): boolean => target instanceof HTMLElement && target.matches('input, textarea, select, [contenteditable]');
