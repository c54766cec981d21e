// A cell that exists only in a test: entities, what commands do to them, and the events that follow. No XMPP here.
import { randomUUID } from 'node:crypto';

export type Json = Record<string, unknown>;
export interface Refusal {
  kind: string;
  condition: string;
  message: string;
  cause?: string;
}
export type Outcome = { answer: Json | Json[] } | { refuse: Refusal } | { silent: true };
type Listener = (events: Json[]) => void;

export const CELL = 'vm.localhost';
export const uuidOf = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

const base = (local: string, kind: string, name: string, host: string, state: string): Json => ({
  id: local.replace(/^(hv|net|pool|task)\./, ''),
  jid: `${local}@${CELL}`,
  kind,
  name,
  state,
  host,
  epoch: kind === 'domain' ? 1 : 0,
  seq: 1_000_000_001,
  since: '2026-11-22T09:30:00.000Z',
  condition: 'ok',
});

export class FakeCell {
  readonly entities = new Map<string, Json>();
  readonly commands: { to: string; node: string; op: string; args: Json }[] = [];
  /** Replaces what a command does, by its name. */
  readonly scripts = new Map<string, (jid: string, args: Json) => Outcome>();
  #listeners = new Set<Listener>();

  listen(fn: Listener): () => void {
    this.#listeners.add(fn);
    return () => this.#listeners.delete(fn);
  }

  add(e: Json): Json {
    this.entities.set(String(e.jid), e);
    return e;
  }

  hypervisor(name: string, facts: Json = {}): Json {
    return this.add({
      ...base(`hv.${name}`, 'hypervisor', name, name, 'connected'),
      link: 'connected',
      uri: 'qemu:///system',
      driver: 'QEMU',
      acceleration: 'kvm',
      hostname: `${name}.example.org`,
      libvirt_version: '9.0.0',
      hypervisor_version: '7.2.15',
      cpus: 32,
      memory: 137438953472,
      restarts: 0,
      ...facts,
    });
  }

  machine(n: number, name: string, host: string, state = 'running', facts: Json = {}): Json {
    return this.add({
      ...base(uuidOf(n), 'domain', name, host, state),
      libvirt_state: state,
      reason: state === 'running' ? 'booted' : state === 'crashed' ? 'panicked' : 'shutdown',
      vcpus: [1, 2, 4, 8][n % 4],
      memory: [536870912, 1073741824, 2147483648, 17179869184][n % 4],
      persistent: true,
      autostart: n % 3 === 0,
      agent: state === 'running',
      virtualization: 'kvm',
      ...facts,
    });
  }

  network(n: number, name: string, host: string, state = 'active'): Json {
    return this.add({ ...base(`net.${uuidOf(n)}`, 'network', name, host, state), libvirt_state: state, bridge: `virbr${n % 10}`, forward: 'nat', persistent: true, autostart: true });
  }

  pool(n: number, name: string, host: string, state = 'running'): Json {
    const facts = { libvirt_state: state, capacity: 2e12, allocation: 7.4e11, available: 1.26e12, type: 'dir', path: `/var/lib/libvirt/${name}`, persistent: true, autostart: true };
    return this.add({ ...base(`pool.${uuidOf(n)}`, 'storage-pool', name, host, state), ...facts });
  }

  /** A task on an entity; running, and 40 % done. */
  task(n: number, target: string, command: string, facts: Json = {}): Json {
    const host = String(this.entities.get(`${target}@${CELL}`)?.host ?? 'alpha');
    const state = String(facts.progress_state ?? 'running');
    return this.add({
      ...base(`task.${uuidOf(n)}`, 'task', command, host, state),
      progress_state: state,
      command,
      target,
      caller: `admin@${CELL}`,
      percent: 40,
      message: 'waiting for the guest',
      started: '2026-11-22T09:31:00.000Z',
      ...facts,
    });
  }

  /** Changes an entity and tells everybody. */
  change(jid: string, topic: string, changes: Json, extra: Json = {}): Json {
    const before = this.entities.get(jid);
    if (!before) throw new Error(`no ${jid}`);
    const after: Json = { ...before, ...changes, seq: Number(before.seq) + 1 };
    if (typeof changes.state === 'string' && before.kind === 'domain' && changes.state !== 'unknown') after.libvirt_state = changes.state;
    this.entities.set(jid, after);
    const event = this.event(after, topic, extra);
    this.tell([event]);
    return event;
  }

  remove(jid: string, topic: string): void {
    const before = this.entities.get(jid);
    if (!before) throw new Error(`no ${jid}`);
    this.entities.delete(jid);
    this.tell([{ ...this.event({ ...before, seq: Number(before.seq) + 1 }, topic), after: null }]);
  }

  event(after: Json, topic: string, extra: Json = {}): Json {
    return { entity: after.jid, topic, epoch: after.epoch, seq: after.seq, at: new Date().toISOString(), cause: 'libvirt', after, ...extra };
  }

  tell(events: Json[]): void {
    for (const fn of this.#listeners) fn(events);
  }

  /** The entities by the local part of their address, after one of them. */
  page(after: string | undefined, max: number): Json[] {
    const order = [...this.entities.keys()].sort();
    const from = after === undefined ? 0 : order.findIndex((jid) => (jid.split('@')[0] ?? '') > after);
    return from < 0 ? [] : order.slice(from, from + max).map((jid) => this.entities.get(jid) ?? {});
  }

  run(jid: string, node: string, args: Json): Outcome {
    const script = this.scripts.get(node);
    if (script) return script(jid, args);
    const e = this.entities.get(jid);
    if (!e) return { refuse: { kind: 'not-found', condition: 'item-not-found', message: `there is no ${jid}` } };
    const become = (state: string, topic: string): Outcome => {
      setTimeout(() => this.change(jid, topic, { state }), 5);
      return { answer: { message: `${String(e.name)} is being changed` } };
    };
    switch (node) {
      case 'domain.start':
        return become(args.paused === true ? 'paused' : 'running', 'domain.started');
      case 'domain.pause':
        return become('paused', 'domain.paused');
      case 'domain.resume':
        return become('running', 'domain.resumed');
      case 'domain.force-off':
        return become('shutoff', 'domain.stopped');
      case 'domain.note':
        setTimeout(() => this.change(jid, 'domain.changed', { note: args.text }), 5);
        return { answer: { message: 'noted' } };
      case 'domain.shutdown': {
        const task = this.task(900000 + this.commands.length, String(jid.split('@')[0]), node);
        this.tell([this.event(task, 'task.started')]);
        return { answer: { task: String(task.id), message: `${String(e.name)} was asked to power off` } };
      }
      case 'domain.xml':
        return { answer: { media_type: 'application/xml', text: `<domain type='kvm'>\n  <name>${String(e.name)}</name>\n</domain>\n` } };
      case 'domain.info':
        return { answer: e };
      case 'domain.define': {
        const made = this.machine(800000 + this.commands.length, String(args.name), String(e.name), 'shutoff');
        this.tell([this.event(made, 'domain.added')]);
        return { answer: { id: made.id as string, message: `${String(args.name)} is defined` } };
      }
      case 'task.cancel':
        setTimeout(() => this.change(jid, 'task.finished', { state: 'cancelled', progress_state: 'cancelled', message: 'cancelled' }), 5);
        return { answer: { message: 'cancelling' } };
      case 'volume.list':
        return {
          answer: ['debian-12.qcow2', 'web1.qcow2', 'data.raw'].map((name) => ({ id: `x/${name}`, jid, name, state: 'available', host: 'alpha', epoch: 0, seq: 1, type: 'file', format: 'qcow2', capacity: 21474836480, allocation: 3221225472, path: `/p/${name}` })),
        };
      default:
        return { refuse: { kind: 'unsupported', condition: 'feature-not-implemented', message: `${node} is not known here` } };
    }
  }

  /** What an entity says when spoken to. */
  reply(jid: string, body: string): string {
    const e = this.entities.get(jid);
    return body === 'status' ? `${String(e?.name)} is ${String(e?.state)} on ${String(e?.host)}` : `I understand: help, status, start, pause, resume`;
  }
}

/** A small cell with something of everything, as screenshots show it. */
export function smallCell(): FakeCell {
  const cell = new FakeCell();
  cell.hypervisor('alpha');
  cell.hypervisor('beta', { acceleration: 'software', cpus: 8, memory: 34359738368, restarts: 2, last_restart: 'domain web4: panic in its actor' });
  const names = ['web1', 'web2', 'web10', 'db-primary', 'db-replica', 'mail', 'build-runner', 'monitoring', 'windows-test', 'router', 'backup', 'dns1', 'dns2', 'staging-api'];
  const states = ['running', 'running', 'running', 'running', 'running', 'running', 'paused', 'running', 'shutoff', 'running', 'shutdown', 'running', 'crashed', 'pmsuspended'];
  const notes = ['shop front, blue', '', 'shop front, canary', 'PostgreSQL 17, do not pause', 'PostgreSQL 17, streaming from db-primary', '', 'CI, may be reset any time', 'Prometheus and Grafana'];
  names.forEach((name, i) => cell.machine(i + 1, name, i % 3 === 2 ? 'beta' : 'alpha', states[i], notes[i] ? { note: notes[i] } : {}));
  cell.machine(20, 'legacy-erp', 'beta', 'running');
  Object.assign(cell.entities.get(`${uuidOf(20)}@${CELL}`) ?? {}, { state: 'unknown', condition: 'control-lost', why: 'libvirt: Cannot write data: Broken pipe' });
  Object.assign(cell.entities.get(`${uuidOf(5)}@${CELL}`) ?? {}, { condition: 'degraded', why: 'its actor is being restarted (2 of 3)' });
  cell.network(101, 'default', 'alpha');
  cell.network(102, 'storage-net', 'alpha', 'inactive');
  cell.network(103, 'default', 'beta');
  cell.pool(201, 'default', 'alpha');
  cell.pool(202, 'iso', 'alpha', 'inactive');
  cell.pool(203, 'default', 'beta');
  cell.task(301, uuidOf(11), 'domain.shutdown');
  cell.task(302, `pool.${uuidOf(201)}`, 'storage-pool.refresh', { progress_state: 'done', percent: 100, message: '41 volumes listed', ended: '2026-11-22T09:30:10.000Z', started: '2026-11-22T09:30:02.000Z' });
  return cell;
}

/** A cell of many machines on twenty hosts. */
export function bigCell(machines: number): FakeCell {
  const cell = new FakeCell();
  for (let h = 0; h < 20; h++) cell.hypervisor(`node-${String(h).padStart(2, '0')}`);
  const states = ['running', 'running', 'running', 'shutoff', 'paused'];
  for (let n = 0; n < machines; n++) cell.machine(n, `vm-${n}`, `node-${String(n % 20).padStart(2, '0')}`, states[n % 5]);
  return cell;
}

export const freshUuid = (): string => randomUUID();
