// A scripted XMPP server over WebSocket (RFC 7395) that also serves the built page under the policy the daemon sends.
// SCRAM, bind, stream management with resumption, the cell feed with paging, commands and chat; nothing more.
import { createServer, type Server } from 'node:http';
import { readFileSync, existsSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AddressInfo } from 'node:net';
import { Window } from 'happy-dom';
import { WebSocketServer, type WebSocket } from 'ws';
import { CELL, freshUuid, type FakeCell, type Json, type Outcome } from './cell';
import { Scram } from './scram';

const DIST = fileURLToPath(new URL('../../dist/', import.meta.url));
const TYPES: Record<string, string> = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const NS = { feed: 'urn:archipel:feed:0', sm: 'urn:xmpp:sm:3', sasl: 'urn:ietf:params:xml:ns:xmpp-sasl' };
const dom = new Window();
const escape = (s: string) => s.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
const json = (v: unknown) => `<json xmlns="urn:xmpp:json:0">${escape(JSON.stringify(v))}</json>`;
type El = ReturnType<InstanceType<typeof dom.DOMParser>['parseFromString']>['children'][number];
const parse = (text: string): El => new dom.DOMParser().parseFromString(text, 'text/xml').documentElement;
const child = (el: El, name: string) => [...el.getElementsByTagName(name)][0];

/** What outlives one line: the session that may be resumed. */
interface Stream {
  id: string;
  jid: string;
  subscribed: boolean;
  item: number;
  /** Stanzas sent, and those not yet acknowledged. */
  sent: number;
  unacked: string[];
  received: number;
  managed: boolean;
  /** It looks at what machines take. */
  watching: boolean;
}

export interface Options {
  accounts?: Record<string, string>;
  /** Accounts whose password is right but who may not sign in. */
  disabled?: string[];
  pageSize?: number;
}

export class FakeServer {
  #http: Server;
  #wss: WebSocketServer;
  #lines = new Set<Line>();
  readonly streams = new Map<string, Stream>();
  accepting = true;
  url = '';
  /** The other exchanges of the cell, as pages (`http://host`). */
  others: string[] = [];

  constructor(
    readonly cell: FakeCell,
    readonly options: Options = {},
  ) {
    this.#http = createServer((req, res) => {
      const path = normalize(new URL(req.url ?? '/', 'http://x').pathname);
      const file = join(DIST, path);
      const found = path !== '/' && file.startsWith(DIST) && existsSync(file) && extname(file) ? file : extname(path) ? undefined : join(DIST, 'index.html');
      const host = req.headers.host ?? '';
      res.setHeader('Content-Security-Policy', `default-src 'self'; connect-src 'self' ws://${host} ${this.others.map((o) => o.replace('http', 'ws')).join(' ')}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'`);
      if (path === '/.well-known/host-meta.json') {
        const links = [this.url, ...this.others].map((o) => ({ rel: 'urn:xmpp:alt-connections:websocket', href: `${o.replace('http', 'ws')}/xmpp-websocket` }));
        return void res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ links }));
      }
      if (!found) return void res.writeHead(404).end();
      res.writeHead(200, { 'Content-Type': TYPES[extname(found)] ?? 'application/octet-stream', 'Cache-Control': 'no-cache' }).end(readFileSync(found));
    });
    this.#wss = new WebSocketServer({ server: this.#http, path: '/xmpp-websocket', handleProtocols: () => 'xmpp' });
    this.#wss.on('connection', (socket) => {
      if (!this.accepting) return socket.terminate();
      const line = new Line(this, socket);
      this.#lines.add(line);
      socket.on('close', () => this.#lines.delete(line));
    });
    cell.listen((events) => this.push(events));
  }

  async start(): Promise<this> {
    await new Promise<void>((done) => this.#http.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
    return this;
  }

  async stop(): Promise<void> {
    this.cut();
    this.#wss.close();
    this.#http.closeAllConnections();
    await new Promise((done) => this.#http.close(done));
  }

  /** Sends events to every subscriber, as one item; also into streams whose line is cut. */
  push(events: Json[], skip = 0): void {
    for (const stream of this.streams.values()) {
      if (!stream.subscribed) continue;
      stream.item += 1 + skip;
      const body = json(events.length === 1 ? events[0] : events);
      this.#send(
        stream,
        `<message xmlns="jabber:client" from="${CELL}" to="${stream.jid}" type="headline"><event xmlns="http://jabber.org/protocol/pubsub#event"><items node="${NS.feed}"><item id="${stream.item}">${body}</item></items></event></message>`,
      );
    }
  }

  /** Drops every line as a dead network does; streams stay resumable unless forgotten. */
  cut(forget = false): void {
    for (const line of this.#lines) line.socket.terminate();
    this.#lines.clear();
    if (forget) this.streams.clear();
  }

  get connected(): number {
    return this.#lines.size;
  }

  #send(stream: Stream, stanza: string): void {
    stream.sent++;
    stream.unacked.push(stanza);
    for (const line of this.#lines) if (line.stream === stream) line.socket.send(stanza);
  }

  stanza(stream: Stream, stanza: string): void {
    this.#send(stream, stanza);
  }
}

class Line {
  stream: Stream | undefined;
  #scram = new Scram();
  #step: 'open' | 'auth' | 'ready' = 'open';

  constructor(
    private readonly server: FakeServer,
    readonly socket: WebSocket,
  ) {
    socket.on('message', (data) => this.#on(String(data)));
  }

  #on(text: string): void {
    const el = parse(text);
    switch (el.nodeName) {
      case 'open':
        return this.#open(el.getAttribute('to') ?? '');
      case 'close':
        if (this.stream) this.server.streams.delete(this.stream.id);
        this.socket.send('<close xmlns="urn:ietf:params:xml:ns:xmpp-framing"/>');
        return this.socket.close();
      case 'auth':
        return void this.socket.send(`<challenge xmlns="${NS.sasl}">${btoa(this.#scram.challenge(atob(el.textContent ?? '')))}</challenge>`);
      case 'response':
        return this.#finish(atob(el.textContent ?? ''));
      case 'enable':
        if (this.stream) this.stream.managed = true;
        return void this.socket.send(`<enabled xmlns="${NS.sm}" id="${this.stream?.id}" resume="true" max="300"/>`);
      case 'resume':
        return this.#resume(el);
      case 'r':
        return void this.socket.send(`<a xmlns="${NS.sm}" h="${this.stream?.received ?? 0}"/>`);
      case 'a': {
        const stream = this.stream;
        const open = stream ? stream.sent - Number(el.getAttribute('h')) : 0;
        if (stream) stream.unacked = open > 0 ? stream.unacked.slice(-open) : [];
        return;
      }
    }
    if (this.stream?.managed) this.stream.received++;
    if (el.nodeName === 'iq') this.#iq(el);
    else if (el.nodeName === 'message') this.#message(el);
  }

  #open(to: string): void {
    this.socket.send(`<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" from="${to}" id="${freshUuid()}" version="1.0"/>`);
    if (to !== CELL) {
      this.socket.send('<stream:error xmlns:stream="http://etherx.jabber.org/streams"><host-unknown xmlns="urn:ietf:params:xml:ns:xmpp-streams"/></stream:error>');
      return this.socket.close();
    }
    const features =
      this.#step === 'ready'
        ? `<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/><sm xmlns="${NS.sm}"/>`
        : `<mechanisms xmlns="${NS.sasl}"><mechanism>SCRAM-SHA-256</mechanism></mechanisms>`;
    this.socket.send(`<stream:features xmlns:stream="http://etherx.jabber.org/streams">${features}</stream:features>`);
  }

  #finish(message: string): void {
    const accounts = this.server.options.accounts ?? { admin: 'secret' };
    const password = accounts[this.#scram.user];
    const signature = password === undefined ? undefined : this.#scram.finish(message, password);
    const refused = signature === undefined ? 'not-authorized' : this.server.options.disabled?.includes(this.#scram.user) ? 'account-disabled' : undefined;
    if (refused) return void this.socket.send(`<failure xmlns="${NS.sasl}"><${refused}/></failure>`);
    this.#step = 'ready';
    this.socket.send(`<success xmlns="${NS.sasl}">${btoa(signature ?? '')}</success>`);
  }

  #resume(el: El): void {
    const stream = this.server.streams.get(el.getAttribute('previd') ?? '');
    if (!stream) return void this.socket.send(`<failed xmlns="${NS.sm}"><item-not-found xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></failed>`);
    const missed = stream.sent - Number(el.getAttribute('h'));
    this.stream = stream;
    this.socket.send(`<resumed xmlns="${NS.sm}" previd="${stream.id}" h="${stream.received}"/>`);
    // At once, as a real server does: handlers must be there already.
    for (const stanza of missed > 0 ? stream.unacked.slice(-missed) : []) this.socket.send(stanza);
  }

  #reply(el: El, inner: string, type = 'result'): void {
    const to = el.getAttribute('to');
    const stanza = `<iq xmlns="jabber:client" type="${type}" id="${el.getAttribute('id')}"${to ? ` from="${to}"` : ''}>${inner}</iq>`;
    if (this.stream) this.server.stanza(this.stream, stanza);
    else this.socket.send(stanza);
  }

  #iq(el: El): void {
    const bind = child(el, 'bind');
    if (bind) {
      const jid = `${this.#scram.user}@${CELL}/${child(bind, 'resource')?.textContent ?? freshUuid()}`;
      this.#reply(el, `<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><jid>${jid}</jid></bind>`);
      this.stream = { id: freshUuid(), jid, subscribed: false, item: 0, sent: 0, unacked: [], received: 0, managed: false, watching: false };
      this.server.streams.set(this.stream.id, this.stream);
      return;
    }
    if (child(el, 'ping')) return this.#reply(el, '');
    if (child(el, 'subscribe')) {
      if (this.stream) this.stream.subscribed = true;
      return this.#reply(el, '');
    }
    if (child(el, 'items')) return this.#page(el);
    for (const verb of ['watch', 'unwatch'] as const) {
      if (!child(el, verb)) continue;
      if (this.stream) this.stream.watching = verb === 'watch';
      return this.#reply(el, '');
    }
    const command = child(el, 'command');
    if (command) return this.#command(el, command);
    this.#reply(el, '<error type="cancel"><service-unavailable xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error>', 'error');
  }

  #page(el: El): void {
    const max = Math.min(Number(child(el, 'max')?.textContent ?? 100), this.server.options.pageSize ?? 500);
    const page = this.server.cell.page(child(el, 'after')?.textContent || undefined, max);
    const local = (e: Json | undefined) => String(e?.jid ?? '').split('@')[0];
    const items = page.length > 0 ? `<item id="page">${json(page)}</item>` : '';
    const bounds = page.length > 0 ? `<first>${local(page[0])}</first><last>${local(page.at(-1))}</last>` : '';
    this.#reply(
      el,
      `<pubsub xmlns="http://jabber.org/protocol/pubsub"><items node="${NS.feed}">${items}</items><set xmlns="http://jabber.org/protocol/rsm">${bounds}<count>${this.server.cell.entities.size}</count></set></pubsub>`,
    );
  }

  #command(el: El, command: El): void {
    const node = command.getAttribute('node') ?? '';
    const to = el.getAttribute('to') ?? '';
    const args = JSON.parse(child(command, 'json')?.textContent ?? '{}') as Json;
    this.server.cell.commands.push({ to, node, op: child(command, 'op')?.getAttribute('id') ?? '', args });
    const outcome: Outcome = this.server.cell.run(to, node, args);
    if ('silent' in outcome) return;
    if ('answer' in outcome) {
      const note = Array.isArray(outcome.answer) ? '' : String(outcome.answer.message ?? '');
      return this.#reply(el, `<command xmlns="http://jabber.org/protocol/commands" node="${node}" status="completed" sessionid="s"><note type="info">${escape(note)}</note>${json(outcome.answer)}</command>`);
    }
    const r = outcome.refuse;
    const cause = r.cause ? `<cause>${escape(r.cause)}</cause>` : '';
    this.#reply(
      el,
      `<error type="wait"><${r.condition} xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/><text xmlns="urn:ietf:params:xml:ns:xmpp-stanzas">${escape(r.message)}</text><fault xmlns="urn:archipel:fault:0" kind="${r.kind}">${cause}</fault></error>`,
      'error',
    );
  }

  #message(el: El): void {
    const to = el.getAttribute('to') ?? '';
    const body = child(el, 'body')?.textContent ?? '';
    if (!this.stream || !body) return;
    const answer = this.server.cell.reply(to, body);
    this.server.stanza(this.stream, `<message xmlns="jabber:client" from="${to}/alpha" to="${this.stream.jid}" type="chat"><body>${escape(answer)}</body></message>`);
  }
}
