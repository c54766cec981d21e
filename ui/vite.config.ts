import { svelte } from '@sveltejs/vite-plugin-svelte';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';
import { sourceHash } from './scripts/source-hash.mjs';

const root = fileURLToPath(new URL('.', import.meta.url));

/** Leaves the fingerprint of the sources beside the built files, so that a stale `dist` is noticed without Node. */
const fingerprint = (): Plugin => ({
  name: 'source-fingerprint',
  apply: 'build',
  closeBundle() {
    writeFileSync(`${root}dist/SOURCE`, `${sourceHash(root)}\n`);
  },
});

export default defineConfig({
  base: '/',
  plugins: [svelte(), fingerprint()],
  // Names without hashes: two branches change the same files instead of leaving orphans; caching is by ETag.
  build: {
    target: 'es2022',
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    rollupOptions: {
      output: { entryFileNames: 'assets/[name].js', chunkFileNames: 'assets/[name].js', assetFileNames: 'assets/[name][extname]' },
    },
  },
  server: { proxy: { '/xmpp-websocket': { target: process.env.ARCHIPEL_URL ?? 'http://127.0.0.1:8080', ws: true }, '/console': { target: process.env.ARCHIPEL_URL ?? 'http://127.0.0.1:8080', ws: true } } },
  resolve: process.env.VITEST ? { conditions: ['browser'] } : undefined,
  test: { environment: 'happy-dom', include: ['tests/unit/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0]);
