// All entities of the cell by address, with the indices the views need. Plain TypeScript; fed only by the feed.
//
// Topics: `jid:J` one entity, `kind:K` any change of that kind, `members` something came, went or was renamed,
// `counts` machines by state, `order:K` at most every 2 s after changes of that kind: lists ordered by something that
// changes wait for it, so that no row jumps away under the pointer.
import { KINDS, type Entity, type Kind } from '../domain/entity';
import type { Topics } from './topics';

/** A key that sorts "vm2" before "vm10" with plain comparison. */
export const sortKey = (name: string): string => name.toLowerCase().replace(/\d+/g, (d) => d.padStart(12, '0'));

const REORDER_MS = 2000;

export class Store {
  #reorder = new Map<Kind, ReturnType<typeof setTimeout>>();
  #entities = new Map<string, Entity>();
  #keys = new Map<string, string>();
  #kinds = new Map<Kind, Set<string>>(KINDS.map((k) => [k, new Set()]));
  #hosts = new Map<string, Set<string>>();
  #states = new Map<string, number>();
  #sorted = new Map<Kind, string[]>();
  #sortedHost = new Map<string, string[]>();

  constructor(readonly topics: Topics) {}

  get(jid: string): Entity | undefined {
    return this.#entities.get(jid);
  }

  jids(): IterableIterator<string> {
    return this.#entities.keys();
  }

  put(e: Entity): void {
    const old = this.#entities.get(e.jid);
    this.#entities.set(e.jid, e);
    if (!old || old.name !== e.name || old.host !== e.host) {
      if (old) this.#unindex(old);
      this.#keys.set(e.jid, sortKey(e.name));
      this.#set(this.#kinds, e.kind).add(e.jid);
      this.#set(this.#hosts, `${e.kind}/${e.host}`).add(e.jid);
      this.#members(e);
    }
    if (e.kind === 'domain' && old?.state !== e.state) {
      if (old) this.#count(old.state, -1);
      this.#count(e.state, 1);
    }
    this.#changed(e);
  }

  remove(jid: string): void {
    const old = this.#entities.get(jid);
    if (!old) return;
    this.#entities.delete(jid);
    this.#keys.delete(jid);
    this.#unindex(old);
    this.#members(old);
    if (old.kind === 'domain') this.#count(old.state, -1);
    this.#changed(old);
  }

  clear(): void {
    for (const jid of [...this.#entities.keys()]) this.remove(jid);
  }

  /** All addresses of a kind, by name. The same array until members change. */
  sorted(kind: Kind): readonly string[] {
    let list = this.#sorted.get(kind);
    if (!list) this.#sorted.set(kind, (list = this.#byName(this.#kinds.get(kind) ?? [])));
    return list;
  }

  /** The addresses of a kind on a host, by name. */
  onHost(kind: Kind, host: string): readonly string[] {
    const key = `${kind}/${host}`;
    let list = this.#sortedHost.get(key);
    if (!list) this.#sortedHost.set(key, (list = this.#byName(this.#hosts.get(key) ?? [])));
    return list;
  }

  /** The name as it sorts. */
  key(jid: string): string {
    return this.#keys.get(jid) ?? '';
  }

  /** How many machines are in a state. */
  count(state: string): number {
    return this.#states.get(state) ?? 0;
  }

  total(kind: Kind): number {
    return this.#kinds.get(kind)?.size ?? 0;
  }

  #byName(jids: Iterable<string>): string[] {
    const pairs = [...jids].map((jid) => [this.key(jid), jid] as const);
    pairs.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[1] < b[1] ? -1 : 1));
    return pairs.map((p) => p[1]);
  }

  #set<K>(map: Map<K, Set<string>>, key: K): Set<string> {
    let set = map.get(key);
    if (!set) map.set(key, (set = new Set()));
    return set;
  }

  #unindex(e: Entity): void {
    this.#kinds.get(e.kind)?.delete(e.jid);
    const key = `${e.kind}/${e.host}`;
    this.#hosts.get(key)?.delete(e.jid);
    this.#sortedHost.delete(key);
  }

  #members(e: Entity): void {
    this.#sorted.delete(e.kind);
    this.#sortedHost.delete(`${e.kind}/${e.host}`);
    this.topics.touch('members');
  }

  #count(state: string, by: number): void {
    this.#states.set(state, this.count(state) + by);
    this.topics.touch('counts');
  }

  #changed(e: Entity): void {
    this.topics.touch(`jid:${e.jid}`);
    this.topics.touch(`kind:${e.kind}`);
    if (this.#reorder.has(e.kind)) return;
    this.#reorder.set(
      e.kind,
      setTimeout(() => {
        this.#reorder.delete(e.kind);
        this.topics.touch(`order:${e.kind}`);
      }, REORDER_MS),
    );
  }
}
