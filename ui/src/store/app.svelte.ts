// Everything of one signed-in page, wired together: the session feeds the store, components read it through `live`.
import { getContext, setContext } from 'svelte';
import { command as findCommand, type CommandEntry } from '../domain/catalog';
import type { CommandName } from '../domain/contract.gen';
import { localPart, type Entity, type Event } from '../domain/entity';
import { asFault, type Fault } from '../domain/fault';
import type { Usage } from '../domain/usage';
import { Session, type Answer, type LinkState, type SessionEvents } from '../domain/session';
import { eventWords } from '../i18n/en';
import { fill, t, verbWord } from '../i18n/t';
import { formatRoute, kindOfLocal, parseRoute, type Route } from '../routes';
import { Chats } from './chats';
import { Live } from './live.svelte';
import { Notices } from './notices';
import { PendingVerbs } from './pending';
import { Store } from './store';
import { Topics } from './topics';
import { parseFrame, UsageBoard } from './usage';

/** A command waiting for its yes. */
export interface Question {
  entity: Entity;
  command: CommandEntry;
  answer(yes: boolean): void;
}

export class App implements SessionEvents {
  readonly topics = new Topics();
  readonly store = new Store(this.topics);
  readonly live = new Live(this.topics);
  readonly pending = new PendingVerbs(this.topics);
  readonly chats = new Chats(this.topics);
  readonly notices = new Notices(this.topics, (group, n) => {
    const words = eventWords[group];
    return words && fill(words.many, { n });
  });
  readonly usage = new UsageBoard(this.topics, (on) => this.session.watch(on));
  readonly session: Session;

  state = $state.raw<LinkState>({ phase: 'signed-out', since: 0, nextTry: 0, server: '' });
  /** Whether the shell shows: signed in and not signed out since. */
  inside = $state(false);
  /** The server refused a sign-in that had worked before. */
  expelled = $state(false);
  progress = $state.raw<{ done: number; count: number | undefined } | undefined>(undefined);
  feedFault = $state.raw<Fault | undefined>(undefined);
  question = $state.raw<Question | undefined>(undefined);
  route = $state.raw<Route>(parseRoute(new URL(location.href)));

  constructor(url: string) {
    this.session = new Session(url, this);
    addEventListener('visibilitychange', () => this.usage.show(document.visibilityState !== 'hidden'));
    addEventListener('popstate', () => (this.route = parseRoute(new URL(location.href))));
  }

  get connected(): boolean {
    return this.state.phase === 'connected';
  }

  // ------------------------------------------------------------ the session tells

  link(state: LinkState): void {
    if (state.phase === 'signed-out' && this.inside) {
      this.inside = false;
      this.expelled = true;
      this.store.clear();
    }
    if (this.inside && state.phase === 'connected' && state.server !== this.state.server) {
      this.notices.add('info', 'link.moved', t('link.moved', { server: state.server }));
    }
    const wasUp = this.connected;
    this.state = state;
    // Whoever began or ended to look meanwhile could not say so.
    if (this.connected && !wasUp) this.session.watch(this.usage.isLookedAt);
    else if (!this.connected) this.usage.clear();
  }

  figures(document: unknown): void {
    const frame = parseFrame(document);
    if (frame && this.usage.isLookedAt) this.usage.take(frame, this.session.cell);
  }

  get(jid: string): Entity | undefined {
    return this.store.get(jid);
  }
  jids(): Iterable<string> {
    return this.store.jids();
  }
  put(entity: Entity): void {
    this.store.put(entity);
  }
  remove(jid: string): void {
    this.lastNames.set(jid, this.store.get(jid)?.name ?? localPart(jid));
    this.store.remove(jid);
    this.pending.end(jid);
  }
  /** Names of what is gone, for the notice that tells so. */
  private readonly lastNames = new Map<string, string>();

  event(e: Event): void {
    this.pending.end(e.entity);
    const name = (e.after && this.#nameOf(e.after)) ?? this.lastNames.get(e.entity) ?? localPart(e.entity);
    this.lastNames.delete(e.entity);
    const words = eventWords[e.topic];
    if (!words) return;
    const failed = e.topic === 'task.finished' && e.after?.state === 'failed';
    const ended = e.topic === 'task.finished' ? e.after?.facts.message : undefined;
    const detail = e.detail ?? (typeof ended === 'string' ? ended : undefined);
    const text = fill(words.one, { name }) + (detail ? ` (${detail})` : '');
    this.notices.add(failed ? 'error' : words.level, e.topic, text, e.after ? e.entity : undefined);
  }

  /** The name as notices say it: a task is called by what it does. */
  #nameOf(e: Entity): string {
    const entry = e.kind === 'task' && typeof e.facts.command === 'string' ? findCommand(e.facts.command) : undefined;
    if (!entry) return e.name;
    const target = this.store.get(`${String(e.facts.target)}@${this.session.cell}`);
    return target ? `${verbWord(entry)} ${target.name}` : verbWord(entry);
  }

  loading(progress: { done: number; count: number | undefined } | undefined): void {
    this.progress = progress;
    if (progress) this.feedFault = undefined;
    else this.lastNames.clear();
  }

  failed(fault: Fault): void {
    if (this.connected) this.feedFault = fault;
  }

  chat(from: string, body: string, error: boolean): void {
    this.chats.add(from, error ? 'error' : 'entity', body);
  }

  // ------------------------------------------------------------ people ask

  async signIn(jid: string, password: string): Promise<void> {
    this.expelled = false;
    this.progress = { done: 0, count: undefined };
    await this.session.signIn(jid, password);
    this.inside = true;
  }

  /** Reads everything again after it failed. */
  readAgain(): void {
    this.feedFault = undefined;
    this.session.readAgain();
  }

  signOut(): void {
    this.inside = false;
    this.session.signOut();
    this.store.clear();
    this.chats.clear();
    this.progress = undefined;
  }

  /** Runs a command; asks first when it destroys. Undefined when the answer was no. */
  async run(entity: Entity, command: CommandEntry, args: Record<string, unknown>): Promise<Answer | undefined> {
    if (command.effect === 'destroy' && !(await this.#ask(entity, command))) return undefined;
    const changes = command.effect !== 'read';
    const shown = command.target === entity.kind && changes;
    if (shown) this.pending.begin(entity.jid, verbWord(command));
    try {
      const answer = await this.session.run(entity.jid, command.name as CommandName, args as never);
      if (shown) this.pending.answered(entity.jid);
      return answer;
    } catch (e) {
      this.pending.end(entity.jid);
      throw asFault(e);
    }
  }

  /** Runs a command from a button: a failure becomes a notice. */
  async press(entity: Entity, command: CommandEntry, args: Record<string, unknown> = {}): Promise<void> {
    try {
      await this.run(entity, command, args);
    } catch (e) {
      const fault = asFault(e);
      const message = fault.message + (fault.beneath ? ` (${fault.beneath})` : '');
      this.notices.add('error', `fault:${entity.jid}`, t('fault.failed', { what: `${verbWord(command)} ${entity.name}`, message }), entity.jid);
    }
  }

  #ask(entity: Entity, command: CommandEntry): Promise<boolean> {
    return new Promise((resolve) => {
      this.question = {
        entity,
        command,
        answer: (yes) => {
          this.question = undefined;
          resolve(yes);
        },
      };
    });
  }

  // ------------------------------------------------------------ where we are

  /** Changes the address. `replace` for changes that Back should not stop at. */
  go(change: Partial<Route>, replace = false): void {
    const next = { ...this.route, ...change };
    const url = formatRoute(next);
    this.route = next;
    if (replace) history.replaceState(null, '', url);
    else if (url !== location.pathname + location.search) history.pushState(null, '', url);
  }

  /** Selects an entity; the list stays unless it is of another kind and `follow` is set. */
  open(jid: string, follow = false): void {
    const selected = localPart(jid);
    const kind = kindOfLocal(selected);
    const keep = this.route.selected !== undefined && kindOfLocal(this.route.selected) === kind;
    const view = follow && kind !== this.route.kind ? { kind, filter: '', sort: '' } : {};
    this.go({ ...view, selected, tab: keep ? this.route.tab : 'overview', command: undefined });
  }

  close(): void {
    this.go({ selected: undefined, command: undefined, tab: 'overview' });
  }

  /** The full address of the selection. */
  get selectedJid(): string | undefined {
    return this.route.selected && `${this.route.selected}@${this.session.cell}`;
  }

  /** Reads what an entity takes now and depends on it. */
  usageOf(jid: string): Usage | undefined {
    this.live.on(`usage:${jid}`);
    return this.usage.get(jid);
  }

  /** Reads an entity and depends on it. */
  entity(jid: string | undefined): Entity | undefined {
    if (jid === undefined) return undefined;
    this.live.on(`jid:${jid}`);
    return this.store.get(jid);
  }
}

const KEY = Symbol('app');
export const provideApp = (app: App): App => setContext(KEY, app);
export const useApp = (): App => getContext<App>(KEY);
