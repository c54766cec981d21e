// Plain chat: what a person says to an entity and what it answers.
import { $msg } from 'strophe.js';
import type { Link } from './connection';

/** Sends a line; false while the line is down. */
export const say = (link: Link, to: string, id: string, body: string): boolean =>
  link.send($msg({ to, id, type: 'chat' }).c('body').t(body).tree());

export interface ChatLine {
  from: string;
  body: string;
  error: boolean;
}

/** The chat line in a message, or undefined when there is none. */
export function chatLine(stanza: Element): ChatLine | undefined {
  const type = stanza.getAttribute('type') ?? 'normal';
  if (type !== 'chat' && type !== 'normal' && type !== 'error') return undefined;
  const from = stanza.getAttribute('from') ?? '';
  const child = (el: Element, name: string) => [...el.children].find((c) => c.nodeName === name);
  if (type === 'error') {
    const error = child(stanza, 'error');
    return { from, body: (error && child(error, 'text')?.textContent) || 'not delivered', error: true };
  }
  const body = child(stanza, 'body')?.textContent;
  return body ? { from, body, error: false } : undefined;
}
