// The fingerprint of everything the built page is made from. The Rust side recomputes it to notice a stale `dist`.
//
// hex(sha256) over one line a file, "<sha256 of the file>  <path relative to ui>\n", sorted by path in byte order.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const SINGLE = ['index.html', 'package.json', 'package-lock.json', 'vite.config.ts', 'svelte.config.js'];

function below(root, folder) {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? below(root, path) : [path];
  });
}

export function sourceHash(root) {
  const files = [...below(root, 'src'), ...SINGLE.filter((f) => existsSync(join(root, f)))];
  files.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const sha = (data) => createHash('sha256').update(data).digest('hex');
  return sha(files.map((f) => `${sha(readFileSync(join(root, f)))}  ${f}\n`).join(''));
}
