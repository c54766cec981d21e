// What stream management sends again after a cut. Reading and chatting may be repeated whenever; a command that somebody
// gave long ago must not run when the line comes back, so it is replaced by a ping of the same place in the queue.
import { Strophe } from 'strophe.js';

type Stored = NonNullable<ReturnType<InstanceType<typeof Strophe.MemoryStorageBackend>['load']>>;

/** A command not acknowledged within this time is not repeated, in milliseconds. */
export const REPEAT_WITHIN_MS = 20_000;

export class ForgetfulBackend extends Strophe.MemoryStorageBackend {
  constructor(private readonly now: () => number = Date.now) {
    super();
  }

  override load(key: string): Stored {
    const state = super.load(key) as Stored | null;
    if (!state) return state as unknown as Stored;
    state.unacked = state.unacked.map((entry) => {
      if (!entry.stanza.includes('http://jabber.org/protocol/commands') || this.now() - entry.queuedAt < REPEAT_WITHIN_MS) return entry;
      const id = /\bid=["']([^"']*)["']/.exec(entry.stanza)?.[1] ?? 'old';
      return { ...entry, stanza: `<iq xmlns="jabber:client" type="get" id="${id}-forgotten"><ping xmlns="urn:xmpp:ping"/></iq>` };
    });
    return state;
  }
}
