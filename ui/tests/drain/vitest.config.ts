import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { environment: 'node', include: ['tests/drain/**/*.test.ts'], testTimeout: 140_000, hookTimeout: 60_000, fileParallelism: false },
});
