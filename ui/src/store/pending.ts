// Verbs that were sent and have shown no effect yet. Never optimistic: the entity shows its old state and "starting ...".
//
//   begin --> waiting --event of the entity | error | answer without effect--> settled
//                |---- 15 s ----> late ("still waiting")
import type { Topics } from './topics';

export interface Pending {
  verb: string;
  since: number;
  late: boolean;
}

/** After this long, in milliseconds, the view says that it is still waiting. */
export const LATE_MS = 15_000;
/** An answered command whose event does not come within this time had nothing to change. */
export const SETTLE_MS = 3000;

export class PendingVerbs {
  #byJid = new Map<string, Pending & { timer: ReturnType<typeof setTimeout> }>();

  constructor(private readonly topics: Topics) {}

  get(jid: string): Pending | undefined {
    return this.#byJid.get(jid);
  }

  begin(jid: string, verb: string): void {
    this.end(jid);
    const timer = setTimeout(() => {
      const p = this.#byJid.get(jid);
      if (p) this.#byJid.set(jid, { ...p, late: true });
      this.topics.touch(`jid:${jid}`);
    }, LATE_MS);
    this.#byJid.set(jid, { verb, since: Date.now(), late: false, timer });
    this.topics.touch(`jid:${jid}`);
  }

  /** The command was answered well; its event usually comes with it. */
  answered(jid: string): void {
    const p = this.#byJid.get(jid);
    if (!p) return;
    clearTimeout(p.timer);
    p.timer = setTimeout(() => this.end(jid), SETTLE_MS);
  }

  /** An event of the entity, or an error. */
  end(jid: string): void {
    const p = this.#byJid.get(jid);
    if (!p) return;
    clearTimeout(p.timer);
    this.#byJid.delete(jid);
    this.topics.touch(`jid:${jid}`);
  }
}
