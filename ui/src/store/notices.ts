// What people are told: merged toasts at the corner, a history behind the bell, and one sentence for screen readers.
import type { Topics } from './topics';

export type Level = 'info' | 'success' | 'warning' | 'error';

export interface Notice {
  id: number;
  level: Level;
  /** Notices with the same key merge while their toast is up. */
  group: string;
  text: string;
  /** The entity it is about, if it is about one. */
  jid: string | undefined;
  at: number;
  /** How many were merged into it. */
  count: number;
}

/** What a merged notice says: group, count, the last text. */
export type Merge = (group: string, count: number) => string | undefined;

const TOASTS = 4;
const TOAST_MS = 6000;
/** The oldest are forgotten beyond this. */
export const HISTORY = 500;

export class Notices {
  toasts: readonly Notice[] = [];
  history: readonly Notice[] = [];
  unread = 0;
  /** The last sentence for the polite live region. */
  spoken = '';
  #next = 1;
  #timers = new Map<number, ReturnType<typeof setTimeout>>();
  #held = false;

  constructor(
    private readonly topics: Topics,
    private readonly merge: Merge = () => undefined,
  ) {}

  add(level: Level, group: string, text: string, jid?: string): void {
    const notice: Notice = { id: this.#next++, level, group, text, jid, at: Date.now(), count: 1 };
    this.history = [notice, ...this.history.slice(0, HISTORY - 1)];
    this.unread = Math.min(this.unread + 1, HISTORY);
    const same = this.toasts.find((t) => t.group === group && t.level === level);
    const count = (same?.count ?? 0) + 1;
    const merged = count > 1 ? this.merge(group, count) : undefined;
    const toast: Notice = same && merged ? { ...notice, id: same.id, count, text: merged, jid: undefined } : notice;
    this.toasts = same && merged ? this.toasts.map((t) => (t.id === same.id ? toast : t)) : [...this.toasts, toast];
    while (this.toasts.length > TOASTS) this.dismiss((this.toasts.find((t) => t.level !== 'error') ?? this.toasts[0])?.id ?? -1);
    this.spoken = toast.text;
    if (level !== 'error') this.#arm(toast.id);
    this.topics.touch('notices');
  }

  dismiss(id: number): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    this.toasts = this.toasts.filter((t) => t.id !== id);
    this.topics.touch('notices');
  }

  /** While the pointer or the focus is on the toasts they stay. */
  hold(on: boolean): void {
    this.#held = on;
    for (const t of this.toasts) if (t.level !== 'error') this.#arm(t.id);
  }

  read(): void {
    this.unread = 0;
    this.topics.touch('notices');
  }

  #arm(id: number): void {
    clearTimeout(this.#timers.get(id));
    if (!this.#held) this.#timers.set(id, setTimeout(() => this.dismiss(id), TOAST_MS));
  }
}
