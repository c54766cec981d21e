// What machines and hosts take, while this page looks: frames of the cell merged, by address. It is no state of theirs: it is not in the
// store, and gone when nobody looks.
import type { Usage } from '../domain/usage';
import type { Topics } from './topics';

/** What has changed on one host. */
export interface Frame {
  host: string;
  node?: Usage | null;
  machines?: Record<string, Usage | null>;
}

/** A frame, if the document is one. */
export function parseFrame(document: unknown): Frame | undefined {
  const frame = document as Partial<Frame> | undefined;
  return typeof frame?.host === 'string' ? (frame as Frame) : undefined;
}

export class UsageBoard {
  #known = new Map<string, Usage>();
  #looks = 0;
  #shown = true;

  /** `tell`: somebody begins to look, or nobody does any more. */
  constructor(
    private readonly topics: Topics,
    private readonly tell: (on: boolean) => void,
  ) {}

  get isLookedAt(): boolean {
    return this.#looks > 0 && this.#shown;
  }

  get(jid: string): Usage | undefined {
    return this.#known.get(jid);
  }

  /** Looks until what it answers is called. */
  look(): () => void {
    this.#change(() => this.#looks++);
    let over = false;
    return () => {
      if (!over) this.#change(() => this.#looks--);
      over = true;
    };
  }

  /** Whether anybody can see the page at all. */
  show(shown: boolean): void {
    this.#change(() => (this.#shown = shown));
  }

  #change(change: () => void): void {
    const before = this.isLookedAt;
    change();
    if (before === this.isLookedAt) return;
    this.tell(this.isLookedAt);
    if (before) this.clear();
  }

  take(frame: Frame, cell: string): void {
    this.#put(`hv.${frame.host}@${cell}`, frame.node);
    for (const [id, usage] of Object.entries(frame.machines ?? {})) this.#put(`${id}@${cell}`, usage);
  }

  /** Nothing is known any more. */
  clear(): void {
    for (const jid of [...this.#known.keys()]) this.#put(jid, undefined);
  }

  #put(jid: string, usage: Usage | null | undefined): void {
    if (usage) this.#known.set(jid, usage);
    else if (!this.#known.delete(jid)) return;
    this.topics.touch(`usage:${jid}`);
  }
}
