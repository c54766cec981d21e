// A failed request: the kind, a sentence for people, and what lay beneath it.

export class Fault extends Error {
  constructor(
    readonly kind: string,
    message: string,
    readonly beneath?: string,
  ) {
    super(message);
    this.name = 'Fault';
  }
}

/** Any thrown thing as a fault. */
export const asFault = (e: unknown): Fault => (e instanceof Fault ? e : new Fault('internal', e instanceof Error ? e.message : String(e)));
