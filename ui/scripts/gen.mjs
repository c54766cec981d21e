// Writes src/domain/contract.gen.ts from the checked-in catalog: the types of all commands and the data the forms,
// buttons and dialogs are made from. Run by `npm run gen`; a unit test fails when the file is stale.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ui = join(dirname(fileURLToPath(import.meta.url)), '..');
const target = join(ui, 'src/domain/contract.gen.ts');

const typeOf = (a) =>
  ({ text: 'string', integer: 'number', bytes: 'number | string', boolean: 'boolean', choice: a.choices?.map((c) => `'${c}'`).join(' | ') })[a.kind];

const quoted = (name) => (/^[a-z_]\w*$/i.test(name) ? name : `'${name}'`);

export function generate() {
  const catalog = JSON.parse(readFileSync(join(ui, '../actors/contract/catalog.json'), 'utf8'));
  const commands = catalog.commands.map((c) => ({
    name: c.name,
    noun: c.noun,
    verb: c.verb,
    title: c.title,
    description: c.description,
    effect: c.effect,
    access: c.access,
    target: c.target,
    arguments: c.arguments,
    refused: Object.fromEntries(
      Object.entries(c.policy).filter(([, v]) => v.verdict === 'refused').map(([state, v]) => [state, v.reason]),
    ),
  }));
  const args = catalog.commands.map((c) => {
    const fields = c.arguments.map((a) => `${quoted(a.name)}${a.required ? '' : '?'}: ${typeOf(a)}`).join('; ');
    return `  '${c.name}': ${fields ? `{ ${fields} }` : 'Record<string, never>'};`;
  });
  return `// Generated from actors/contract/catalog.json by \`npm run gen\`. Do not edit.
import type { Catalog } from './catalog';

/** The arguments of every command. */
export interface CommandArguments {
${args.join('\n')}
}

/** The name of a command. */
export type CommandName = keyof CommandArguments;

/** Everything that can be asked and everything that is told. */
export const catalog: Catalog = ${JSON.stringify({ commands, events: catalog.events, states: catalog.states }, null, 1)};
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(target, generate());
  console.log(`wrote ${target}`);
}
