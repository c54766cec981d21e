// One server and one browser for the tests of a file, each test with its own cell.
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { openBrowser, type Browser } from '../fake/browser';
import type { FakeCell } from '../fake/cell';
import { FakeServer, type Options } from '../fake/server';

export function useBrowser(size?: { width: number; height: number }): { readonly browser: Browser; serve(cell: FakeCell, options?: Options): Promise<FakeServer> } {
  let browser: Browser | undefined;
  const servers: FakeServer[] = [];
  beforeAll(async () => {
    browser = await openBrowser(size);
  });
  afterEach(async () => {
    const complaints = browser?.complaints.splice(0) ?? [];
    await browser?.page.goto('about:blank');
    for (const s of servers.splice(0)) await s.stop();
    // Cut lines and refused sign-ins are logged by the browser itself; nothing else may be.
    expect(complaints.filter((c) => !/websocket/i.test(c))).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
  });
  return {
    get browser() {
      if (!browser) throw new Error('the browser is not open');
      return browser;
    },
    async serve(cell, options) {
      const server = await new FakeServer(cell, options).start();
      servers.push(server);
      return server;
    },
  };
}
