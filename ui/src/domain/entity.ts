// One entity and one event as they come over the wire: flat JSON, one parser for snapshot, event and answer.

export const KINDS = ['hypervisor', 'domain', 'network', 'storage-pool', 'task'] as const;
export type Kind = (typeof KINDS)[number];
export type Condition = 'ok' | 'degraded' | 'control-lost' | 'unreachable';

/** What all entities share. Times are RFC 3339 in UTC. */
export interface EntityBase {
  kind: Kind;
  id: string;
  jid: string;
  name: string;
  state: string;
  host: string;
  epoch: number;
  seq: number;
  since: string;
  condition: Condition;
  why?: string;
  /** The noun's own facts under their names on the wire. */
  facts: Readonly<Record<string, unknown>>;
}
export type Entity = Readonly<EntityBase>;

/** One change of one entity; `after` is null when it is gone. */
export interface Event {
  entity: string;
  topic: string;
  epoch: number;
  seq: number;
  at: string;
  cause: 'libvirt' | 'archipel' | { person: string };
  detail?: string;
  after: Entity | null;
}

const BASE = new Set(['kind', 'id', 'jid', 'name', 'state', 'host', 'epoch', 'seq', 'since', 'condition', 'why']);

const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Reads an entity; undefined when it is not one we know (a newer server may know more kinds). */
export function parseEntity(json: unknown): Entity | undefined {
  if (!isObject(json)) return undefined;
  const { kind, id, jid, name, state, host, epoch, seq } = json;
  if (!KINDS.includes(kind as Kind) || typeof jid !== 'string' || !jid.includes('@') || typeof name !== 'string') return undefined;
  if (typeof state !== 'string' || typeof host !== 'string' || typeof epoch !== 'number' || typeof seq !== 'number') return undefined;
  const facts: Record<string, unknown> = {};
  for (const key in json) if (!BASE.has(key)) facts[key] = json[key];
  return {
    kind: kind as Kind,
    id: typeof id === 'string' ? id : localPart(jid),
    jid,
    name,
    state,
    host,
    epoch,
    seq,
    since: typeof json.since === 'string' ? json.since : '',
    condition: (typeof json.condition === 'string' ? json.condition : 'ok') as Condition,
    why: typeof json.why === 'string' ? json.why : undefined,
    facts,
  };
}

/** Reads an event; undefined when it is not one. */
export function parseEvent(json: unknown): Event | undefined {
  if (!isObject(json)) return undefined;
  const { entity, topic, epoch, seq, at, cause, detail, after } = json;
  if (typeof entity !== 'string' || typeof topic !== 'string' || typeof epoch !== 'number' || typeof seq !== 'number') return undefined;
  const parsed = after === null || after === undefined ? null : parseEntity(after);
  if (parsed === undefined) return undefined;
  const person = isObject(cause) && typeof cause.person === 'string' ? { person: cause.person } : undefined;
  return {
    entity,
    topic,
    epoch,
    seq,
    at: typeof at === 'string' ? at : '',
    cause: person ?? (cause === 'libvirt' ? 'libvirt' : 'archipel'),
    detail: typeof detail === 'string' ? detail : undefined,
    after: parsed,
  };
}

/** The local part of an address: how links and tasks name an entity inside a cell. */
export const localPart = (jid: string): string => jid.slice(0, jid.indexOf('@'));

/** Whether `(epoch, seq)` of `a` is later than that of `b`. */
export const isLater = (a: { epoch: number; seq: number }, b: { epoch: number; seq: number }): boolean =>
  a.epoch !== b.epoch ? a.epoch > b.epoch : a.seq > b.seq;

/** A number among the facts, or undefined. */
export const numberFact = (e: Entity, key: string): number | undefined =>
  typeof e.facts[key] === 'number' ? (e.facts[key] as number) : undefined;

/** A text among the facts, or undefined. */
export const textFact = (e: Entity, key: string): string | undefined =>
  typeof e.facts[key] === 'string' ? (e.facts[key] as string) : undefined;
