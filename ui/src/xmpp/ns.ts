// The namespaces of the wire, in one place.
export const NS = {
  commands: 'http://jabber.org/protocol/commands',
  pubsub: 'http://jabber.org/protocol/pubsub',
  pubsubEvent: 'http://jabber.org/protocol/pubsub#event',
  rsm: 'http://jabber.org/protocol/rsm',
  json: 'urn:xmpp:json:0',
  op: 'urn:archipel:op:0',
  fault: 'urn:archipel:fault:0',
  feed: 'urn:archipel:feed:0',
  usage: 'urn:archipel:usage:0',
  stanzas: 'urn:ietf:params:xml:ns:xmpp-stanzas',
  ping: 'urn:xmpp:ping',
} as const;

/** The first descendant with that name and namespace. */
export function find(root: Element, ns: string, name: string): Element | undefined {
  for (const el of root.getElementsByTagName(name)) if (namespaceOf(el) === ns) return el;
  return undefined;
}

/** The namespace, also where a test's DOM only knows the attribute. */
export const namespaceOf = (el: Element): string | null => el.getAttribute('xmlns') ?? el.namespaceURI;

/** The JSON document inside a stanza, or undefined. */
export function jsonIn(root: Element): unknown {
  const el = find(root, NS.json, 'json');
  if (!el) return undefined;
  try {
    return JSON.parse(el.textContent ?? '');
  } catch {
    return undefined;
  }
}
