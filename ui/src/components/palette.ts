// What the palette offers for a few letters: views, entities by name, and what can be done with the selection.
import { mainCommands, mayRun, moreCommands, type CommandEntry } from '../domain/catalog';
import { KINDS, type Entity, type Kind } from '../domain/entity';
import { t, verbWord } from '../i18n/t';
import type { Store } from '../store/store';

export type Offer =
  | { type: 'view'; id: string; label: string; kind: Kind }
  | { type: 'entity'; id: string; label: string; entity: Entity }
  | { type: 'command'; id: string; label: string; entity: Entity; command: CommandEntry; main: boolean };

const ENTITIES = 30;

export function offers(store: Store, selected: Entity | undefined, text: string): Offer[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (label: string) => words.every((w) => label.toLowerCase().includes(w));
  const out: Offer[] = [];
  if (selected) {
    const main = mainCommands(selected.kind).filter((c) => mayRun(c, selected).allowed);
    for (const command of [...main, ...moreCommands(selected.kind)]) {
      const label = `${verbWord(command)}: ${selected.name}`;
      if (fits(label)) out.push({ type: 'command', id: `c-${command.name}`, label, entity: selected, command, main: main.includes(command) });
    }
  }
  for (const kind of KINDS) {
    const label = t(`kinds.${kind}`);
    if (fits(label)) out.push({ type: 'view', id: `v-${kind}`, label, kind });
  }
  let left = ENTITIES;
  for (const kind of KINDS) {
    if (kind === 'task') continue;
    for (const jid of store.sorted(kind)) {
      const entity = store.get(jid);
      if (!entity || !fits(entity.name)) continue;
      if (left-- <= 0) return out;
      out.push({ type: 'entity', id: `e-${jid}`, label: entity.name, entity });
    }
  }
  return out;
}
