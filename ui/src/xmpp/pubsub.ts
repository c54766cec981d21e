// The cell feed on the wire: subscribe, read pages (XEP-0059), and what is pushed.
import { $iq } from 'strophe.js';
import { NS, find, jsonIn, namespaceOf } from './ns';
import type { Link } from './connection';

const TIMEOUT_MS = 30_000;

/** Subscribes the full address of this stream. */
export async function subscribe(link: Link, cell: string): Promise<void> {
  await link.request(
    (id) =>
      $iq({ type: 'set', to: cell, id }).c('pubsub', { xmlns: NS.pubsub }).c('subscribe', { node: NS.feed, jid: link.jid }).tree(),
    TIMEOUT_MS,
  );
}

export interface Page {
  /** The JSON documents of the page; a document may be an array of entities. */
  documents: unknown[];
  last: string | undefined;
  count: number | undefined;
}

/** One page of the snapshot. */
export async function page(link: Link, cell: string, max: number, after: string | undefined): Promise<Page> {
  const answer = await link.request((id) => {
    const iq = $iq({ type: 'get', to: cell, id })
      .c('pubsub', { xmlns: NS.pubsub })
      .c('items', { node: NS.feed })
      .up()
      .c('set', { xmlns: NS.rsm })
      .c('max')
      .t(String(max))
      .up();
    if (after !== undefined) iq.c('after').t(after);
    return iq.tree();
  }, TIMEOUT_MS);
  const documents = [...answer.getElementsByTagName('item')].map((item) => jsonIn(item)).filter((d) => d !== undefined);
  const set = find(answer, NS.rsm, 'set');
  const text = (name: string) => [...(set?.children ?? [])].find((c) => c.nodeName === name)?.textContent ?? undefined;
  const count = text('count');
  return { documents, last: text('last'), count: count === undefined ? undefined : Number(count) };
}

export interface Pushed {
  id: string;
  document: unknown;
}

/** The feed items of a message, or undefined when it is another kind of message. */
export function pushed(stanza: Element): Pushed[] | undefined {
  const event = [...stanza.children].find((c) => c.nodeName === 'event' && namespaceOf(c) === NS.pubsubEvent);
  const items = event && [...event.children].find((c) => c.nodeName === 'items' && c.getAttribute('node') === NS.feed);
  if (!items) return undefined;
  return [...items.children].filter((c) => c.nodeName === 'item').map((c) => ({ id: c.getAttribute('id') ?? '', document: jsonIn(c) }));
}
