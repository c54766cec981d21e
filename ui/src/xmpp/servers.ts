// The exchanges of the cell, of which one serves at a time: the page's own first, then those that host-meta names (XEP-0156).
const RELATION = 'urn:xmpp:alt-connections:websocket';
const PATIENCE_MS = 2000;

/** Which server is tried next. */
export class Servers {
  #urls: string[];
  #at = 0;
  #failures = 0;

  constructor(first: string) {
    this.#urls = [first];
  }

  get current(): string {
    return this.#urls[this.#at] ?? '';
  }

  get several(): boolean {
    return this.#urls.length > 1;
  }

  /** Learns of others; the current one stays. */
  learn(urls: string[]): void {
    this.#urls = [...new Set([...this.#urls, ...urls])];
  }

  settled(): void {
    this.#failures = 0;
  }

  /** The current one failed and the next is current; says whether all have failed now. */
  failed(): boolean {
    this.#at = (this.#at + 1) % this.#urls.length;
    this.#failures++;
    if (this.#failures < this.#urls.length) return false;
    this.#failures = 0;
    return true;
  }
}

/** What stands between `//` and `/` of an address. */
export const hostOf = (url: string): string => /^\w+:\/\/([^/]+)/.exec(url)?.[1] ?? url;

/** The WebSockets that host-meta names; none when it cannot be read. */
export async function discover(): Promise<string[]> {
  try {
    const answer = await fetch('/.well-known/host-meta.json', { signal: AbortSignal.timeout(PATIENCE_MS) });
    const { links } = (await answer.json()) as { links?: { rel?: string; href?: string }[] };
    return (links ?? []).flatMap((l) => (l.rel === RELATION && typeof l.href === 'string' && /^wss?:\/\//.test(l.href) ? [l.href] : []));
  } catch {
    return [];
  }
}
