// The borders of the folders, and files that are made from others.
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { generate } from '../../scripts/gen.mjs';
import { sourceHash } from '../../scripts/source-hash.mjs';

const ui = resolve(__dirname, '../..');
const src = join(ui, 'src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((f) => /\.(ts|svelte)$/.test(f));

/** What each folder may import of ours, itself included. */
const ALLOWED: Record<string, string[]> = {
  xmpp: ['xmpp', 'domain/fault'],
  domain: ['domain', 'xmpp'],
  store: ['store', 'domain', 'i18n', 'routes'],
  i18n: ['i18n', 'domain'],
  components: ['components', 'domain', 'store', 'i18n', 'routes'],
  pages: ['pages', 'components', 'domain', 'store', 'i18n', 'routes'],
};

test('folders import only what they may', () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const file of files) {
    const allowed = ALLOWED[file.split('/')[0] ?? ''];
    if (!allowed) continue;
    for (const [, target = ''] of readFileSync(join(src, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)) {
      seen++;
      const to = relative(src, resolve(dirname(join(src, file)), target));
      if (!allowed.some((a) => to === a || to.startsWith(`${a}/`) || to.startsWith(`${a}.`))) wrong.push(`${file} imports ${to}`);
    }
  }
  expect(wrong).toEqual([]);
  expect(seen).toBeGreaterThan(50);
});

test('only the folder xmpp knows the XMPP library, and the domain knows no Svelte', () => {
  const importing = (what: RegExp) => files.filter((f) => what.test(readFileSync(join(src, f), 'utf8')));
  expect(importing(/from 'strophe\.js'/).filter((f) => !f.startsWith('xmpp/'))).toEqual([]);
  expect(importing(/from '(svelte|bits-ui)/).filter((f) => f.startsWith('domain/') || f.startsWith('xmpp/') || f.startsWith('i18n/'))).toEqual([]);
});

test('no file is longer than 500 lines', () => {
  const long = files.filter((f) => f !== 'domain/contract.gen.ts' && readFileSync(join(src, f), 'utf8').split('\n').length > 500);
  expect(long).toEqual([]);
});

test('the generated contract is that of the catalog: run npm run gen', () => {
  expect(readFileSync(join(src, 'domain/contract.gen.ts'), 'utf8') === generate()).toBe(true);
});

test('the built page is that of the sources: run npm run build', () => {
  expect(readFileSync(join(ui, 'dist/SOURCE'), 'utf8').trim()).toBe(sourceHash(ui));
});

test('the lock file names no registry', () => {
  expect(readFileSync(join(ui, 'package-lock.json'), 'utf8')).not.toContain('"resolved"');
});
