// Looking at what machines take, on the wire.
import { $iq } from 'strophe.js';
import type { Link } from './connection';
import { NS, jsonIn, namespaceOf } from './ns';

const TIMEOUT_MS = 30_000;

/** Says to the cell that this stream looks at every host, or no more. */
export async function watch(link: Link, cell: string, on: boolean): Promise<void> {
  await link.request((id) => $iq({ type: 'set', to: cell, id }).c(on ? 'watch' : 'unwatch', { xmlns: NS.usage }).tree(), TIMEOUT_MS);
}

/** The document of a message that tells figures, or undefined when it is another kind of message. */
export function figures(stanza: Element): unknown {
  const usage = [...stanza.children].find((c) => c.nodeName === 'usage' && namespaceOf(c) === NS.usage);
  return usage && jsonIn(usage);
}
