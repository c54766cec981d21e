// What a page needs to open a console: a secret that only it knows, and the proof of it that goes with the command.

export interface Secret {
  secret: string;
  /** SHA-256 of the secret in base64url. */
  proof: string;
}

const base64url = (bytes: Uint8Array): string =>
  btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

/** A fresh secret. Browsers only hash where the page came over https or from this machine, as for signing in. */
export async function freshSecret(): Promise<Secret> {
  const secret = base64url(crypto.getRandomValues(new Uint8Array(32)));
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(secret));
  return { secret, proof: base64url(new Uint8Array(digest)) };
}

interface Ticket {
  path: string;
  host: string;
}

/** The ticket in the answer of a command, if there is one. */
export function ticketOf(document: unknown): Ticket | undefined {
  const ticket = (document as { ticket?: Partial<Ticket> } | undefined)?.ticket;
  return typeof ticket?.path === 'string' && typeof ticket.host === 'string' ? { path: ticket.path, host: ticket.host } : undefined;
}

/** The socket that presents a ticket, at the page's own origin. */
export function openTicket(location: { protocol: string; host: string }, path: string, secret: string): WebSocket {
  const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${path}`, ['binary', `archipel.${secret}`]);
  socket.binaryType = 'arraybuffer';
  return socket;
}
