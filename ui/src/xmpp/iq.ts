// Requests and their answers by id. The table outlives a cut line: after a resumption the replayed answer still finds
// its question; after a fresh start nobody will answer any more and every open question fails.
import { Fault } from '../domain/fault';
import { NS, find } from './ns';

interface Open {
  resolve(el: Element): void;
  reject(e: Fault): void;
  timer: ReturnType<typeof setTimeout>;
}

/** At most this many questions are open at once; more are refused, as something is badly stuck then. */
const LIMIT = 256;

export class Requests {
  #open = new Map<string, Open>();
  #next = 1;

  /** A fresh id and the promise of its answer. */
  ask(timeoutMs: number): { id: string; answer: Promise<Element> } {
    const id = `q${this.#next++}`;
    if (this.#open.size >= LIMIT) return { id, answer: Promise.reject(new Fault('busy', 'too many requests are waiting; try again in a moment')) };
    const answer = new Promise<Element>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#open.delete(id);
        reject(new Fault('timeout', 'no answer in time; it may still have happened, look before you repeat it'));
      }, timeoutMs);
      this.#open.set(id, { resolve, reject, timer });
    });
    return { id, answer };
  }

  /** Takes an answer; false when nobody asked. */
  settle(el: Element): boolean {
    const id = el.getAttribute('id') ?? '';
    const open = this.#open.get(id);
    const type = el.getAttribute('type');
    if (!open || (type !== 'result' && type !== 'error')) return false;
    this.#open.delete(id);
    clearTimeout(open.timer);
    if (type === 'result') open.resolve(el);
    else open.reject(faultOf(el));
    return true;
  }

  /** Fails every open question. */
  abandon(fault: Fault): void {
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const o of open) {
      clearTimeout(o.timer);
      o.reject(fault);
    }
  }
}

/** RFC 6120 conditions of servers that are not ours, as kinds of fault. */
const CONDITION: Record<string, string> = {
  'bad-request': 'invalid-request',
  'item-not-found': 'not-found',
  forbidden: 'forbidden',
  'not-authorized': 'forbidden',
  'not-allowed': 'forbidden',
  'unexpected-request': 'wrong-state',
  conflict: 'conflict',
  'resource-constraint': 'busy',
  'remote-server-timeout': 'timeout',
  'recipient-unavailable': 'unavailable',
  'service-unavailable': 'unavailable',
  'feature-not-implemented': 'unsupported',
};

/** A stanza error as a fault. */
export function faultOf(stanza: Element): Fault {
  const error = [...stanza.children].find((c) => c.nodeName === 'error');
  if (!error) return new Fault('internal', 'the server refused without a reason');
  const fault = find(error, NS.fault, 'fault');
  const text = [...error.children].find((c) => c.nodeName === 'text')?.textContent ?? '';
  const condition = [...error.children].map((c) => c.nodeName).find((n) => n !== 'text' && n !== 'fault') ?? '';
  const kind = fault?.getAttribute('kind') ?? CONDITION[condition] ?? 'internal';
  const cause = fault && [...fault.children].find((c) => c.nodeName === 'cause')?.textContent;
  return new Fault(kind, text || `the server answered ${condition || 'with an error'}`, cause || undefined);
}
