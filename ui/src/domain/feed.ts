// Keeps a sink equal to the cell: snapshot and pushed events, joined by (epoch, seq).
//
//   fresh stream --> subscribe --> read pages --(a page with no items)--> live
//                                     ^  what is pushed meanwhile is applied at once: the higher (epoch, seq) wins
//                                     |
//   live -- hole in item ids or in an entity's seq --> read pages again (not more often than every 2 s)
//
// What was not in the snapshot and was not pushed since it began is gone.
import { type Entity, type Event, isLater, parseEntity, parseEvent } from './entity';
import { asFault, type Fault } from './fault';

export interface FeedSource {
  subscribe(): Promise<void>;
  page(max: number, after: string | undefined): Promise<{ documents: unknown[]; last: string | undefined; count: number | undefined }>;
}

export interface FeedSink {
  get(jid: string): Entity | undefined;
  jids(): Iterable<string>;
  put(entity: Entity): void;
  remove(jid: string): void;
  event(event: Event): void;
  loading(state: { done: number; count: number | undefined } | undefined): void;
  failed(fault: Fault): void;
}

/** How many entities one page carries at most. */
export const PAGE = 500;
const REST_MS = 2000;
/** Tombstones kept while a snapshot is read. */
type Version = { epoch: number; seq: number };

export class Feed {
  #generation = 0;
  #reading = false;
  #again = false;
  #lastItem: number | undefined;
  #touched = new Set<string>();
  #gone = new Map<string, Version>();
  #lastRead = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly source: FeedSource,
    private readonly sink: FeedSink,
    private readonly now: () => number = Date.now,
  ) {}

  /** Begins on a fresh stream; what an older stream was still reading is dropped. */
  async start(): Promise<void> {
    const generation = ++this.#generation;
    this.#lastItem = undefined;
    this.#reading = false;
    this.#again = false;
    clearTimeout(this.#timer);
    try {
      await this.source.subscribe();
      if (generation === this.#generation) await this.#read(generation);
    } catch (e) {
      this.#failed(generation, e);
    }
  }

  /** Nothing more is read or applied. */
  stop(): void {
    this.#generation++;
    clearTimeout(this.#timer);
    this.#reading = false;
  }

  /** One pushed item: its id and its document, one event or an array of them. */
  pushed(id: string, document: unknown): void {
    const n = Number(id);
    if (id !== '' && Number.isInteger(n)) {
      if (this.#lastItem !== undefined && n !== this.#lastItem + 1) this.#hole();
      this.#lastItem = n;
    }
    for (const json of Array.isArray(document) ? document : [document]) {
      const event = parseEvent(json);
      if (event) this.#apply(event);
    }
  }

  #apply(event: Event): void {
    const known = this.sink.get(event.entity) ?? this.#gone.get(event.entity);
    if (known && !isLater(event, known)) return;
    if (known && event.epoch === known.epoch && event.seq > known.seq + 1) this.#hole();
    if (this.#reading) this.#touched.add(event.entity);
    if (event.after) {
      this.#gone.delete(event.entity);
      this.sink.put(event.after);
    } else {
      if (this.#reading) this.#gone.set(event.entity, { epoch: event.epoch, seq: event.seq });
      this.sink.remove(event.entity);
    }
    this.sink.event(event);
  }

  #hole(): void {
    if (this.#reading) {
      this.#again = true;
      return;
    }
    const generation = this.#generation;
    const wait = Math.max(0, this.#lastRead + REST_MS - this.now());
    this.#reading = true;
    this.#begin();
    this.#timer = setTimeout(() => {
      if (generation === this.#generation) this.#read(generation).catch((e: unknown) => this.#failed(generation, e));
    }, wait);
  }

  #begin(): void {
    this.#touched.clear();
    this.#gone.clear();
  }

  async #read(generation: number): Promise<void> {
    this.#reading = true;
    do {
      this.#again = false;
      this.#begin();
      await this.#pages(generation);
      if (generation !== this.#generation) return;
      this.#lastRead = this.now();
    } while (this.#again);
    this.#reading = false;
    this.#gone.clear();
    this.sink.loading(undefined);
  }

  async #pages(generation: number): Promise<void> {
    const seen = new Set<string>();
    let after: string | undefined;
    for (;;) {
      const page = await this.source.page(PAGE, after);
      if (generation !== this.#generation) return;
      const entities = page.documents.flatMap((d) => (Array.isArray(d) ? d : [d]));
      for (const json of entities) {
        const entity = parseEntity(json);
        if (!entity) continue;
        seen.add(entity.jid);
        const gone = this.#gone.get(entity.jid);
        if (gone && !isLater(entity, gone)) continue;
        const known = this.sink.get(entity.jid);
        if (!known || !isLater(known, entity)) this.sink.put(entity);
      }
      this.sink.loading({ done: seen.size, count: page.count });
      if (entities.length === 0 || page.last === undefined || page.last === after) break;
      after = page.last;
    }
    for (const jid of [...this.sink.jids()]) if (!seen.has(jid) && !this.#touched.has(jid)) this.sink.remove(jid);
  }

  #failed(generation: number, e: unknown): void {
    if (generation !== this.#generation) return;
    this.#reading = false;
    this.sink.loading(undefined);
    this.sink.failed(asFault(e));
  }
}
