// Who wants to know of what, and when they are told: the first change after a silence at once, then at most once a frame.
// A hidden page has no frames, so a timer stands in.

export type Topic = string;
type Listener = () => void;

const FRAME_MS = 16;
const HIDDEN_MS = 100;

export class Topics {
  #listeners = new Map<Topic, Set<Listener>>();
  #dirty = new Set<Topic>();
  #scheduled = false;
  #last = -Infinity;
  /** How often listeners were told; tests read it. */
  flushes = 0;

  listen(topic: Topic, fn: Listener): () => void {
    let set = this.#listeners.get(topic);
    if (!set) this.#listeners.set(topic, (set = new Set()));
    set.add(fn);
    return () => {
      set.delete(fn);
      if (set.size === 0 && this.#listeners.get(topic) === set) this.#listeners.delete(topic);
    };
  }

  touch(topic: Topic): void {
    this.#dirty.add(topic);
    if (this.#scheduled) return;
    this.#scheduled = true;
    if (performance.now() - this.#last >= FRAME_MS) queueMicrotask(() => this.#flush());
    else if (typeof document !== 'undefined' && document.visibilityState === 'hidden') setTimeout(() => this.#flush(), HIDDEN_MS);
    else if (typeof requestAnimationFrame === 'function') requestAnimationFrame(() => this.#flush());
    else setTimeout(() => this.#flush(), FRAME_MS);
  }

  #flush(): void {
    this.#scheduled = false;
    this.#last = performance.now();
    this.flushes++;
    const dirty = this.#dirty;
    this.#dirty = new Set();
    for (const topic of dirty) for (const fn of [...(this.#listeners.get(topic) ?? [])]) fn();
  }
}
