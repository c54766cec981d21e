// Conversations with entities, kept in memory: what was said and what was answered.
import type { Topics } from './topics';

export interface Line {
  id: number;
  from: 'me' | 'entity' | 'error';
  body: string;
  at: number;
}

/** Lines kept of one conversation. */
export const LINES = 500;

export class Chats {
  #lines = new Map<string, readonly Line[]>();
  #unread = new Map<string, number>();
  #next = 1;
  /** The conversation on screen, whose lines count as read. */
  open: string | undefined;

  constructor(private readonly topics: Topics) {}

  lines(jid: string): readonly Line[] {
    return this.#lines.get(jid) ?? [];
  }

  unread(jid: string): number {
    return this.#unread.get(jid) ?? 0;
  }

  add(jid: string, from: Line['from'], body: string): void {
    this.#lines.set(jid, [...this.lines(jid), { id: this.#next++, from, body, at: Date.now() }].slice(-LINES));
    if (from !== 'me' && this.open !== jid) this.#unread.set(jid, this.unread(jid) + 1);
    this.topics.touch(`chat:${jid}`);
  }

  /** Shows a conversation; `undefined` shows none. */
  show(jid: string | undefined): void {
    this.open = jid;
    if (jid !== undefined && this.#unread.delete(jid)) this.topics.touch(`chat:${jid}`);
  }

  clear(): void {
    this.#lines.clear();
    this.#unread.clear();
  }
}
