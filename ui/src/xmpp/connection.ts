// The one stream of this page: sign in, stay connected, resume.
//
//   signed-out --signIn--> connecting --bound--> connected(fresh)
//        ^                     | refused             |  line cut
//        |                     v                     v
//        +-----signOut---- signed-out         offline(next try) --timer, online, visible--> resuming
//                                                    ^                                        |  |
//                                                    +--------------- failed -----------------+  |
//                                     connected(resumed | fresh: everything is read again) <-----+
//
// With several servers each is tried before a pause, and one that says nothing is given up within seconds.
//
// strophe drops all handlers when a line is lost, and a resumed server replays at once: they are added again inside the
// CONNECTED callback and nowhere else.
import { $iq, $pres, Strophe } from 'strophe.js';
import { Fault } from '../domain/fault';
import { Requests } from './iq';
import { ForgetfulBackend } from './resend';
import { NS } from './ns';
import { Servers, hostOf } from './servers';

export type Phase = 'signed-out' | 'connecting' | 'connected' | 'resuming' | 'offline';
/** How the line stands; times in milliseconds since 1970. */
export interface LinkState {
  phase: Phase;
  /** Since when the data is old, while not connected. */
  since: number;
  /** When the next try is due, while offline. */
  nextTry: number;
  /** The host of the server it is connected to, or was last. */
  server: string;
}

/** Why signing in failed, as people need to tell the causes apart. */
export type SignInCause = 'password' | 'unreachable' | 'not-authorised' | 'wrong-cell' | 'insecure' | 'no-mechanism';
export class SignInError extends Error {
  constructor(
    readonly cause: SignInCause,
    readonly condition = '',
  ) {
    super(`${cause} ${condition}`);
  }
}

export interface LinkEvents {
  state(state: LinkState): void;
  /** A new stream was bound: nothing of the old one holds any more. */
  fresh(fullJid: string): void;
  message(stanza: Element): void;
}

type Conn = InstanceType<typeof Strophe.Connection>;
const { Status } = Strophe;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
const SIGN_IN_TIMEOUT_MS = 15_000;
const QUIET_MS = 30_000;
const PING_TIMEOUT_MS = 8000;
// The same where another server may have taken over.
const ONE_OF_SEVERAL = { longestPause: 1000, timeout: 5000, quiet: 1000, ping: 2000 };
const ONLY_ONE = { longestPause: LONGEST_PAUSE_MS, timeout: SIGN_IN_TIMEOUT_MS, quiet: QUIET_MS, ping: PING_TIMEOUT_MS };

export class Link {
  readonly requests = new Requests();
  state: LinkState = { phase: 'signed-out', since: 0, nextTry: 0, server: '' };
  #conn: Conn | undefined;
  #credentials: { jid: string; secret: string | Record<string, unknown> } | undefined;
  #waiting: { resolve(): void; reject(e: SignInError): void } | undefined;
  #pause = FIRST_PAUSE_MS;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #quiet: ReturnType<typeof setTimeout> | undefined;

  readonly #servers: Servers;

  constructor(
    url: string,
    private readonly events: LinkEvents,
  ) {
    this.#servers = new Servers(url);
    if (typeof addEventListener === 'function') {
      addEventListener('online', () => this.#nudge());
      addEventListener('offline', () => this.#probe(2000));
      addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#nudge());
    }
  }

  /** Other servers of the cell, tried when the current one is away. */
  learn(urls: string[]): void {
    this.#servers.learn(urls);
  }

  get #limits(): typeof ONLY_ONE {
    return this.#servers.several ? ONE_OF_SEVERAL : ONLY_ONE;
  }

  /** The full JID while connected. */
  get jid(): string {
    return this.#conn?.jid ?? '';
  }

  /** Signs in; rejects with the cause. */
  signIn(jid: string, password: string): Promise<void> {
    if (typeof crypto === 'undefined' || !crypto.subtle) return Promise.reject(new SignInError('insecure'));
    this.#drop();
    this.#credentials = { jid, secret: password };
    this.#conn = new Strophe.Connection(this.#servers.current, {
      mechanisms: [Strophe.SASLSHA512, Strophe.SASLSHA384, Strophe.SASLSHA256, Strophe.SASLSHA1],
      enableStreamManagement: true,
      streamManagement: { storage: new ForgetfulBackend(), maxUnacked: 5 },
    });
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#connect('connecting');
    });
  }

  /** Ends the stream for good. */
  signOut(): void {
    this.requests.abandon(new Fault('unavailable', 'signed out'));
    this.#conn?.disconnect('signed out');
    this.#drop();
    this.#set('signed-out');
  }

  /** Sends a question and waits for its answer. Refused at once while the line is down: nothing is queued. */
  request(build: (id: string) => Element, timeoutMs: number): Promise<Element> {
    if (this.state.phase !== 'connected' || !this.#conn) {
      return Promise.reject(new Fault('unavailable', 'not connected; nothing was sent'));
    }
    const { id, answer } = this.requests.ask(timeoutMs);
    this.#conn.send(build(id));
    return answer;
  }

  /** Sends a stanza that has no answer; false while the line is down. */
  send(stanza: Element): boolean {
    if (this.state.phase !== 'connected' || !this.#conn) return false;
    this.#conn.send(stanza);
    return true;
  }

  #drop(): void {
    this.#attempt++;
    clearTimeout(this.#retry);
    clearTimeout(this.#watch);
    clearTimeout(this.#quiet);
    this.#credentials = undefined;
    this.#waiting = undefined;
    this.#pause = FIRST_PAUSE_MS;
    this.#conn = undefined;
  }

  #set(phase: Phase, nextTry = 0): void {
    const wasUp = this.state.phase === 'connected';
    const server = phase === 'connected' ? hostOf(this.#servers.current) : this.state.server;
    this.state = { phase, nextTry, server, since: wasUp && phase !== 'connected' ? Date.now() : this.state.since };
    this.events.state(this.state);
  }

  #connect(phase: 'connecting' | 'resuming'): void {
    const conn = this.#conn;
    const credentials = this.#credentials;
    if (!conn || !credentials) return;
    const attempt = ++this.#attempt;
    clearTimeout(this.#retry);
    this.#set(phase);
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => attempt === this.#attempt && this.#lost(attempt, 'unreachable', 'timeout'), this.#limits.timeout);
    conn.reset();
    conn.service = this.#servers.current;
    conn.connect(credentials.jid, credentials.secret as string, (status: number, condition?: string | null, el?: Element) => {
      if (attempt !== this.#attempt) return;
      // strophe names the condition of a refused sign-in only in the element.
      const named = [...(el?.children ?? [])].map((c) => c.nodeName).find((n) => n !== 'text');
      this.#onStatus(attempt, conn, status, condition ?? named ?? '');
    });
  }

  #onStatus(attempt: number, conn: Conn, status: number, condition: string): void {
    switch (status) {
      case Status.CONNECTED:
        this.#onConnected(conn);
        break;
      case Status.AUTHFAIL:
        // No condition: the stored keys do not fit the server's salt any more, as the password was changed.
        this.#lost(attempt, ['', 'not-authorized', 'invalid-authzid'].includes(condition) ? 'password' : 'not-authorised', condition);
        break;
      case Status.CONNFAIL:
      case Status.CONNTIMEOUT:
      case Status.DISCONNECTED:
        this.#lost(attempt, condition === 'host-unknown' ? 'wrong-cell' : condition === 'no-auth-mech' ? 'no-mechanism' : 'unreachable', condition);
        break;
    }
  }

  #onConnected(conn: Conn): void {
    clearTimeout(this.#watch);
    this.#pause = FIRST_PAUSE_MS;
    this.#servers.settled();
    if (conn.scram_keys && this.#credentials) this.#credentials.secret = conn.scram_keys; // the password is not kept
    const handle = (fn: (el: Element) => void) => (el: Element) => {
      this.#heard();
      try {
        fn(el);
      } catch (e) {
        console.error(e);
      }
      return true;
    };
    conn.addHandler(handle((el) => this.#onIq(el)), null as never, 'iq', null as never);
    conn.addHandler(handle((el) => this.events.message(el)), null as never, 'message', null as never);
    const resumed = conn.hasResumed();
    if (!resumed) {
      // Commands of the old stream must not run on the new one: nobody waits for them any more.
      const sm = conn.sm as unknown as { _pendingResend?: unknown[] } | undefined;
      if (sm?._pendingResend) sm._pendingResend = [];
      this.requests.abandon(new Fault('unavailable', 'the connection was lost before the answer came; look before you repeat it'));
    }
    this.#set('connected');
    this.#heard();
    if (!resumed) {
      conn.send($pres().tree());
      this.events.fresh(conn.jid);
    }
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  #onIq(el: Element): void {
    if (this.requests.settle(el)) return;
    const type = el.getAttribute('type');
    if (type !== 'get' && type !== 'set') return;
    const to = { id: el.getAttribute('id') ?? '', to: el.getAttribute('from') ?? '' };
    const reply =
      type === 'get' && el.getElementsByTagName('ping').length > 0
        ? $iq({ ...to, type: 'result' }).tree()
        : $iq({ ...to, type: 'error' }).c('error', { type: 'cancel' }).c('service-unavailable', { xmlns: NS.stanzas }).tree();
    this.#conn?.send(reply);
  }

  #lost(attempt: number, cause: SignInCause, condition: string): void {
    if (attempt !== this.#attempt) return;
    this.#attempt++; // the rest of what strophe says about this line is of no interest
    clearTimeout(this.#watch);
    clearTimeout(this.#quiet);
    // Not at once: strophe may be about to answer a challenge on this very socket.
    const conn = this.#conn;
    const gone = this.#attempt;
    setTimeout(() => {
      const reused = this.#conn === conn && this.#attempt !== gone;
      if (!reused) (conn as unknown as { _doDisconnect(): void } | undefined)?._doDisconnect();
    });
    const final = cause === 'password' || cause === 'not-authorised';
    const phase = this.#waiting ? 'connecting' : 'resuming';
    const around = final || this.#servers.failed();
    if (!around) {
      // The next one at once, but after strophe has closed this line.
      if (!this.#waiting) this.#set('offline', Date.now());
      this.#retry = setTimeout(() => this.#connect(phase), 50);
      return;
    }
    if (this.#waiting || final) {
      this.#waiting?.reject(new SignInError(cause, condition));
      this.requests.abandon(new Fault('unavailable', 'signed out'));
      this.#drop();
      this.#set('signed-out');
      return;
    }
    const wait = this.#pause * (0.75 + Math.random() * 0.5);
    this.#pause = Math.min(this.#pause * 2, this.#limits.longestPause);
    this.#set('offline', Date.now() + wait);
    this.#retry = setTimeout(() => this.#connect('resuming'), wait);
  }

  /** Tries at once when the network came back or somebody looks again. */
  #nudge(): void {
    if (this.state.phase === 'offline') this.#connect('resuming');
    else this.#probe(this.#limits.ping);
  }

  /** Every stanza proves the line; after a silence a ping must. A dead line is otherwise noticed only by the next click. */
  #heard(): void {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.#probe(this.#limits.ping), this.#limits.quiet);
  }

  #probe(timeoutMs: number): void {
    if (this.state.phase !== 'connected') return;
    const attempt = this.#attempt;
    this.request((id) => $iq({ id, type: 'get' }).c('ping', { xmlns: NS.ping }).tree(), timeoutMs).catch((e: Fault) => {
      if (e.kind === 'timeout') this.#lost(attempt, 'unreachable', 'silence');
    });
  }
}
