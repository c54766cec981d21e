// What the page does with the wire, in words of the domain: sign in, follow the feed, run commands, chat.
// Nothing outside this folder knows of stanzas.
import { execute } from '../xmpp/adhoc';
import { chatLine, say } from '../xmpp/chat';
import { Link, type LinkState } from '../xmpp/connection';
import { page, pushed, subscribe } from '../xmpp/pubsub';
import { discover } from '../xmpp/servers';
import { figures, watch } from '../xmpp/usage';
import type { CommandArguments, CommandName } from './contract.gen';
import { Feed, type FeedSink } from './feed';
import { Fault } from './fault';

export { SignInError, type LinkState, type Phase, type SignInCause } from '../xmpp/connection';

export interface SessionEvents extends FeedSink {
  link(state: LinkState): void;
  figures(document: unknown): void;
  chat(from: string, body: string, error: boolean): void;
}

/** The answer of a command: a sentence for people and the document. */
export interface Answer {
  message: string;
  document: unknown;
}

const COMMAND_TIMEOUT_MS = 90_000;

export class Session {
  readonly #link: Link;
  readonly #feed: Feed;
  /** The domain of the cell: what stands after the @. */
  cell = '';
  /** The bare address of who signed in. */
  me = '';

  constructor(url: string, events: SessionEvents) {
    this.#feed = new Feed(
      { subscribe: () => subscribe(this.#link, this.cell), page: (max, after) => page(this.#link, this.cell, max, after) },
      events,
    );
    this.#link = new Link(url, {
      state: (s) => events.link(s),
      fresh: () => void this.#feed.start(),
      message: (stanza) => {
        // Only the cell tells what changed; another account could say anything.
        const items = stanza.getAttribute('from') === this.cell ? pushed(stanza) : undefined;
        if (items) {
          for (const item of items) this.#feed.pushed(item.id, item.document);
          return;
        }
        const usage = stanza.getAttribute('from') === this.cell ? figures(stanza) : undefined;
        if (usage !== undefined) return events.figures(usage);
        const line = chatLine(stanza);
        if (line) events.chat(line.from.replace(/\/.*$/, ''), line.body, line.error);
      },
    });
  }

  /** Signs in with a bare address; rejects with a `SignInError`. */
  async signIn(jid: string, password: string): Promise<void> {
    this.me = jid;
    this.cell = jid.slice(jid.indexOf('@') + 1);
    this.#link.learn(await discover());
    await this.#link.signIn(`${jid}/web-${uuid().slice(0, 8)}`, password);
  }

  /** Subscribes and reads everything again. */
  readAgain(): void {
    void this.#feed.start();
  }

  signOut(): void {
    this.#feed.stop();
    this.#link.signOut();
  }

  /** Runs a command on an entity; rejects with a `Fault`. */
  async run<C extends CommandName>(to: string, name: C, args: CommandArguments[C], op: string = uuid()): Promise<Answer> {
    const wait = typeof (args as { timeout?: unknown }).timeout === 'number' ? (args as { timeout: number }).timeout * 1000 + 10_000 : 0;
    const answer = await execute(this.#link, to, name, args, op, Math.max(COMMAND_TIMEOUT_MS, wait));
    const message = (answer.json as { message?: unknown } | undefined)?.message;
    return { message: typeof message === 'string' ? message : answer.note, document: answer.json };
  }

  /** Looks at what machines take, or no more. While the line is down nothing is said; whoever asks says it again then. */
  watch(on: boolean): void {
    watch(this.#link, this.cell, on).catch(() => undefined);
  }

  /** Says something to an entity; throws a `Fault` while the line is down. */
  say(to: string, body: string): void {
    if (!say(this.#link, to, uuid(), body)) throw new Fault('unavailable', 'not connected; nothing was sent');
  }
}

/** The WebSocket address beside the page. */
export const socketAddress = (location: { protocol: string; host: string }): string =>
  `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/xmpp-websocket`;

/** Why an address cannot be signed in with, or undefined when it can. */
export function addressProblem(jid: string): 'no-domain' | 'bad-address' | undefined {
  if (!jid.includes('@')) return 'no-domain';
  return /^[^\s@/"&'<>:]+@[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(jid) ? undefined : 'bad-address';
}

/** A random UUID, also where the page is not in a secure context. */
export function uuid(): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = ((b[6] ?? 0) & 0x0f) | 0x40;
  b[8] = ((b[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...b].map((x) => x.toString(16).padStart(2, '0')).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
