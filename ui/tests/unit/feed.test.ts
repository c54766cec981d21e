import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Entity, Event } from '../../src/domain/entity';
import { Feed, type FeedSink, type FeedSource } from '../../src/domain/feed';
import type { Fault } from '../../src/domain/fault';

const entity = (n: number, seq: number, state = 'running') => ({ kind: 'domain', id: `${n}`, jid: `${n}@c`, name: `m${n}`, state, host: 'a', epoch: 1, seq, since: '', condition: 'ok' });
const event = (n: number, seq: number, state: string | null, epoch = 1) => ({
  entity: `${n}@c`,
  topic: state === null ? 'domain.undefined' : 'domain.changed',
  epoch,
  seq,
  at: '',
  cause: 'libvirt',
  after: state === null ? null : { ...entity(n, seq, state), epoch },
});

class Sink implements FeedSink {
  entities = new Map<string, Entity>();
  events: Event[] = [];
  faults: Fault[] = [];
  busy = false;
  get = (jid: string) => this.entities.get(jid);
  jids = () => this.entities.keys();
  put = (e: Entity) => void this.entities.set(e.jid, e);
  remove = (jid: string) => void this.entities.delete(jid);
  event = (e: Event) => void this.events.push(e);
  loading = (s: unknown) => void (this.busy = s !== undefined);
  failed = (f: Fault) => void this.faults.push(f);
  state = (n: number) => this.entities.get(`${n}@c`)?.state;
}

/** A source whose pages are released one by one. */
class Source implements FeedSource {
  reads = 0;
  waiting: ((page: unknown[]) => void)[] = [];
  subscribe = async () => {};
  page = (_max: number, after: string | undefined) => {
    if (after === undefined) this.reads++;
    return new Promise<{ documents: unknown[]; last: string | undefined; count: number | undefined }>((done) => {
      this.waiting.push((rows) => done({ documents: [rows], last: rows.length > 0 ? `after-${after ?? ''}` : undefined, count: undefined }));
    });
  };
  async answer(...pages: unknown[][]): Promise<void> {
    for (const page of [...pages, []]) {
      await vi.waitFor(() => expect(this.waiting.length).toBeGreaterThan(0));
      this.waiting.shift()?.(page);
      await Promise.resolve();
    }
  }
}

let sink: Sink;
let source: Source;
let feed: Feed;
const settled = () => vi.waitFor(() => expect(sink.busy).toBe(false));
async function begin(...rows: unknown[]): Promise<void> {
  const started = feed.start();
  await source.answer(rows);
  await started;
}
beforeEach(() => {
  sink = new Sink();
  source = new Source();
  feed = new Feed(source, sink);
});
afterEach(() => feed.stop());

test('pages are read until one has no items', async () => {
  const started = feed.start();
  await source.answer([entity(1, 5)], [entity(2, 5)]);
  await started;
  expect([...sink.entities.keys()]).toEqual(['1@c', '2@c']);
  expect(sink.busy).toBe(false);
});

test('what is pushed while the snapshot is read wins when it is later', async () => {
  const started = feed.start();
  await vi.waitFor(() => expect(source.waiting.length).toBe(1));
  feed.pushed('1', event(1, 7, 'paused'));
  await source.answer([entity(1, 6), entity(2, 9, 'shutoff')]);
  await started;
  expect(sink.state(1)).toBe('paused');
  expect(sink.state(2)).toBe('shutoff');
});

test('what was removed while the snapshot is read does not come back with it', async () => {
  const started = feed.start();
  await vi.waitFor(() => expect(source.waiting.length).toBe(1));
  feed.pushed('1', event(1, 7, null));
  await source.answer([entity(1, 6)]);
  await started;
  expect(sink.state(1)).toBeUndefined();
});

test('an older event changes nothing, and a higher epoch beats any seq', async () => {
  await begin(entity(1, 50));
  feed.pushed('1', event(1, 49, 'paused'));
  expect(sink.state(1)).toBe('running');
  expect(sink.events).toEqual([]);
  feed.pushed('2', event(1, 2, 'shutoff', 2));
  expect(sink.state(1)).toBe('shutoff');
});

test('what is missing in a later snapshot is gone', async () => {
  await begin(entity(1, 1), entity(2, 1));
  await begin(entity(2, 1));
  expect([...sink.entities.keys()]).toEqual(['2@c']);
});

test('a hole in the item ids reads the snapshot again', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    await begin(entity(1, 1), entity(2, 1));
    feed.pushed('4', event(1, 2, 'paused'));
    expect(source.reads).toBe(1);
    feed.pushed('6', event(1, 3, 'running'));
    vi.advanceTimersByTime(2000);
  } finally {
    vi.useRealTimers();
  }
  await source.answer([entity(1, 3), entity(2, 2, 'crashed')]);
  await settled();
  expect(source.reads).toBe(2);
  expect(sink.state(2)).toBe('crashed');
});

test('a hole in the seq of an entity reads the snapshot again, but the event counts', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    await begin(entity(1, 1));
    feed.pushed('1', event(1, 3, 'paused'));
    expect(sink.state(1)).toBe('paused');
    vi.advanceTimersByTime(2000);
  } finally {
    vi.useRealTimers();
  }
  await source.answer([entity(1, 3, 'paused')]);
  await settled();
  expect(source.reads).toBe(2);
});

test('events come in arrays too, and what is no event is passed over', async () => {
  await begin(entity(1, 1));
  feed.pushed('1', [event(1, 2, 'paused'), { nonsense: true }, null, event(1, 3, 'running')]);
  expect(sink.events.map((e) => e.seq)).toEqual([2, 3]);
});

test('a new stream drops what the old one was still reading', async () => {
  void feed.start();
  await vi.waitFor(() => expect(source.waiting.length).toBe(1));
  const old = source.waiting.shift();
  const started = feed.start();
  old?.([entity(9, 1)]);
  await source.answer([entity(1, 1)]);
  await started;
  expect([...sink.entities.keys()]).toEqual(['1@c']);
});

test('a failed read is told', async () => {
  source.page = () => Promise.reject(new Error('broken'));
  await feed.start();
  expect(sink.faults.map((f) => f.message)).toEqual(['broken']);
});
