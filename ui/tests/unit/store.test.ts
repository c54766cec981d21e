import { expect, test, vi } from 'vitest';
import { isLater, parseEntity, parseEvent, type Entity, type Kind } from '../../src/domain/entity';
import { Chats } from '../../src/store/chats';
import { Notices } from '../../src/store/notices';
import { LATE_MS, PendingVerbs, SETTLE_MS } from '../../src/store/pending';
import { filter, parseQuery } from '../../src/store/query';
import { sortKey, Store } from '../../src/store/store';
import { Topics } from '../../src/store/topics';
import { treeRows, parentIndex } from '../../src/components/tree';

const make = (name: string, more: Partial<Entity> & { kind?: Kind } = {}): Entity => ({
  kind: 'domain', id: name, jid: `${name}@c`, name, state: 'running', host: 'alpha', epoch: 1, seq: 1, since: '', condition: 'ok', facts: {}, ...more,
});

test('names sort as people count', () => {
  const store = new Store(new Topics());
  for (const n of ['vm10', 'VM2', 'vm1', 'a']) store.put(make(n));
  expect(store.sorted('domain').map((j) => store.get(j)?.name)).toEqual(['a', 'vm1', 'VM2', 'vm10']);
  expect(sortKey('vm2') < sortKey('vm10')).toBe(true);
});

test('the list is the same array until members change', () => {
  const store = new Store(new Topics());
  store.put(make('a'));
  const list = store.sorted('domain');
  store.put(make('a', { state: 'paused', seq: 2 }));
  expect(store.sorted('domain')).toBe(list);
  store.put(make('a', { name: 'z', seq: 3 }));
  expect(store.sorted('domain')).not.toBe(list);
});

test('counts and hosts follow changes, moves and removals', () => {
  const store = new Store(new Topics());
  store.put(make('a'));
  store.put(make('b', { state: 'shutoff' }));
  expect([store.count('running'), store.count('shutoff'), store.total('domain')]).toEqual([1, 1, 2]);
  store.put(make('a', { host: 'beta', state: 'paused' }));
  expect([store.count('running'), store.onHost('domain', 'alpha').length, store.onHost('domain', 'beta').length]).toEqual([0, 1, 1]);
  store.remove('a@c');
  store.remove('a@c');
  expect([store.count('paused'), store.onHost('domain', 'beta').length, store.total('domain')]).toEqual([0, 0, 1]);
});

test('the first change is told at once and a burst once more', async () => {
  const topics = new Topics();
  const store = new Store(topics);
  let told = 0;
  topics.listen('kind:domain', () => told++);
  for (let i = 0; i < 1000; i++) store.put(make('a', { seq: i }));
  await Promise.resolve();
  expect(told).toBe(1);
  for (let i = 0; i < 1000; i++) store.put(make('a', { seq: i }));
  await vi.waitFor(() => expect(told).toBe(2));
});

test('who stopped listening is not told', async () => {
  const topics = new Topics();
  const fn = vi.fn();
  topics.listen('x', fn)();
  topics.touch('x');
  await Promise.resolve();
  expect(fn).not.toHaveBeenCalled();
});

test('the filter knows words, states, hosts and exclusion', () => {
  const store = new Store(new Topics());
  store.put(make('web1', { facts: { note: 'Shop front' } }));
  store.put(make('web2', { state: 'paused' }));
  store.put(make('db', { host: 'beta' }));
  const names = (q: string) => filter(store.sorted('domain'), parseQuery(q), (j) => store.get(j)).map((j) => store.get(j)?.name);
  expect(names('')).toEqual(['db', 'web1', 'web2']);
  expect(names('WEB')).toEqual(['web1', 'web2']);
  expect(names('state:paused')).toEqual(['web2']);
  expect(names('-host:beta -state:paused')).toEqual(['web1']);
  expect(names('shop')).toEqual(['web1']);
  expect(names('web shop')).toEqual(['web1']);
});

test('a pending verb ends with an event, and an answer without an event ends it after a while', () => {
  vi.useFakeTimers();
  try {
    const pending = new PendingVerbs(new Topics());
    pending.begin('a', 'Start');
    vi.advanceTimersByTime(LATE_MS);
    expect(pending.get('a')).toMatchObject({ verb: 'Start', late: true });
    pending.end('a');
    expect(pending.get('a')).toBeUndefined();
    pending.begin('a', 'Note');
    pending.answered('a');
    vi.advanceTimersByTime(SETTLE_MS - 1);
    expect(pending.get('a')).toBeDefined();
    vi.advanceTimersByTime(1);
    expect(pending.get('a')).toBeUndefined();
  } finally {
    vi.useRealTimers();
  }
});

test('toasts merge, are four at most, and errors stay', () => {
  vi.useFakeTimers();
  try {
    const notices = new Notices(new Topics(), (group, n) => (group === 'started' ? `${n} started` : undefined));
    for (let i = 0; i < 14; i++) notices.add('success', 'started', `m${i} started`, `m${i}@c`);
    expect(notices.toasts).toHaveLength(1);
    expect(notices.toasts[0]).toMatchObject({ text: '14 started', count: 14, jid: undefined });
    notices.add('error', 'boom', 'it broke');
    for (let i = 0; i < 5; i++) notices.add('info', `g${i}`, `text ${i}`);
    expect(notices.toasts).toHaveLength(4);
    expect(notices.toasts.some((t) => t.text === 'it broke')).toBe(true);
    expect(notices.history).toHaveLength(20);
    notices.hold(true);
    vi.advanceTimersByTime(60_000);
    expect(notices.toasts).toHaveLength(4);
    notices.hold(false);
    vi.advanceTimersByTime(60_000);
    expect(notices.toasts.map((t) => t.text)).toEqual(['it broke']);
    notices.read();
    expect(notices.unread).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

test('chat lines count as unread until they are shown', () => {
  const chats = new Chats(new Topics());
  chats.add('a', 'entity', 'hello');
  chats.add('a', 'me', 'hi');
  expect([chats.unread('a'), chats.lines('a').length]).toEqual([1, 2]);
  chats.show('a');
  chats.add('a', 'entity', 'again');
  expect(chats.unread('a')).toBe(0);
});

test('the tree folds, filters and knows parents', () => {
  const store = new Store(new Topics());
  store.put(make('hv.alpha', { kind: 'hypervisor', name: 'alpha' }));
  store.put(make('web1'));
  store.put(make('db'));
  store.put(make('net.1', { kind: 'network', name: 'default' }));
  const ids = (changed: string[], f = '') => treeRows(store, new Set(changed), f).map((r) => r.id);
  expect(ids([])).toEqual(['hv.alpha', 'hv.alpha/network', 'hv.alpha/domain', 'db', 'web1']);
  expect(ids(['hv.alpha/network', 'hv.alpha/domain'])).toEqual(['hv.alpha', 'hv.alpha/network', 'net.1', 'hv.alpha/domain']);
  expect(ids(['hv.alpha'])).toEqual(['hv.alpha']);
  expect(ids(['hv.alpha'], 'web')).toEqual(['hv.alpha', 'hv.alpha/domain', 'web1']);
  expect(ids([], 'nothing')).toEqual([]);
  const rows = treeRows(store, new Set(), '');
  expect(parentIndex(rows, 4)).toBe(2);
  expect(parentIndex(rows, 0)).toBe(-1);
});

test('entities and events parse, and what is neither does not', () => {
  const json = { kind: 'domain', id: 'x', jid: 'x@c', name: 'n', state: 'running', host: 'a', epoch: 1, seq: 2, since: 's', condition: 'degraded', why: 'w', vcpus: 2 };
  expect(parseEntity(json)).toMatchObject({ name: 'n', condition: 'degraded', why: 'w', facts: { vcpus: 2 } });
  for (const bad of [null, [], 'x', {}, { ...json, kind: 'planet' }, { ...json, seq: '2' }, { ...json, jid: 'x' }]) expect(parseEntity(bad)).toBeUndefined();
  expect(parseEvent({ entity: 'x@c', topic: 'domain.started', epoch: 1, seq: 3, at: 't', cause: { person: 'a@c' }, after: json })).toMatchObject({ cause: { person: 'a@c' } });
  expect(parseEvent({ entity: 'x@c', topic: 'domain.undefined', epoch: 1, seq: 3, after: null })).toMatchObject({ after: null });
  expect(parseEvent({ entity: 'x@c', topic: 't', epoch: 1, seq: 3, after: { broken: true } })).toBeUndefined();
  expect(isLater({ epoch: 2, seq: 1 }, { epoch: 1, seq: 9 })).toBe(true);
  expect(isLater({ epoch: 1, seq: 1 }, { epoch: 1, seq: 1 })).toBe(false);
});
