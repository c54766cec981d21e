// The filter language: words that must all fit, `state:running` and `host:alpha` for fields, a minus to exclude.
import type { Entity } from '../domain/entity';

export interface Term {
  field: 'text' | 'state' | 'host';
  word: string;
  not: boolean;
}

export function parseQuery(text: string): Term[] {
  return text
    .toLowerCase()
    .split(/\s+/)
    .filter((w) => w !== '' && w !== '-')
    .map((w) => {
      const not = w.startsWith('-');
      const bare = not ? w.slice(1) : w;
      const match = /^(state|host):(.*)$/.exec(bare);
      return match ? { field: match[1] as 'state' | 'host', word: match[2] ?? '', not } : { field: 'text', word: bare, not };
    });
}

export function matches(terms: readonly Term[], e: Entity): boolean {
  return terms.every((t) => {
    if (t.field === 'state') return e.state.startsWith(t.word) !== t.not;
    if (t.field === 'host') return e.host.startsWith(t.word) !== t.not;
    const note = e.facts.note;
    const fits =
      e.name.toLowerCase().includes(t.word) || e.id.includes(t.word) || (typeof note === 'string' && note.toLowerCase().includes(t.word));
    return fits !== t.not;
  });
}

/** The addresses that fit; the same array when there is nothing to filter. */
export function filter(jids: readonly string[], terms: readonly Term[], get: (jid: string) => Entity | undefined): readonly string[] {
  if (terms.length === 0) return jids;
  return jids.filter((jid) => {
    const e = get(jid);
    return e !== undefined && matches(terms, e);
  });
}
