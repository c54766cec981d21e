// The page of a person who watches a host being emptied: started by tests/real/topics/drain.py inside the network of a host.
// ARCHIPEL_URL, ARCHIPEL_JID and ARCHIPEL_PASSWORD name the daemon, ARCHIPEL_AWAY the host that is emptied, ARCHIPEL_FOLDER where
// `ready` is written once everything is on the screen, and `rows.json` once all machines have left and come back.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBrowser, picture, signIn, type Browser } from '../fake/browser';

const { ARCHIPEL_URL: url = '', ARCHIPEL_JID: jid = '', ARCHIPEL_PASSWORD: password = '', ARCHIPEL_AWAY: away = '', ARCHIPEL_FOLDER: folder = '' } = process.env;
const HOST = 2; // The column of the host, after state and name.

interface Seen {
  jid: string;
  name: string;
  state: string;
  host: string;
}

let b: Browser;
beforeAll(async () => {
  for (const [name, value] of Object.entries({ ARCHIPEL_URL: url, ARCHIPEL_AWAY: away, ARCHIPEL_FOLDER: folder })) if (value === '') throw new Error(`set ${name}`);
  b = await openBrowser({ width: 1360, height: 640 });
  // Writes down every picture that a person sees: each change of a row, in the order in which they were painted.
  await b.page.addInitScript((column) => {
    const w = window as unknown as { rows: Seen[][]; now: Map<string, string> };
    w.rows = [];
    w.now = new Map();
    const look = () => {
      const changed: Seen[] = [];
      for (const el of document.querySelectorAll<HTMLElement>('[role=grid] [role=row][data-jid]')) {
        const cells = el.querySelectorAll<HTMLElement>('[role=gridcell]');
        const row = { jid: el.dataset.jid ?? '', name: cells[1]?.textContent.trim() ?? '', state: el.dataset.state ?? '', host: cells[column]?.textContent.trim() ?? '' };
        const text = JSON.stringify(row);
        if (w.now.get(row.jid) !== text) changed.push(row);
        w.now.set(row.jid, text);
      }
      if (changed.length > 0) w.rows.push(changed);
    };
    addEventListener('DOMContentLoaded', () => new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ['data-state'] }));
  }, HOST);
});
afterAll(async () => {
  await b?.close();
});

/** How many of the machines on the screen are on that host. */
const on = (host: string) =>
  b.page.evaluate(([h, column]) => [...document.querySelectorAll('[role=grid] [role=row][data-jid]')].filter((el) => el.querySelectorAll('[role=gridcell]')[column as number]?.textContent.trim().split(' ')[0] === h).length, [host, HOST] as const);

test('every machine of a drained host is seen to leave and to come back, live', async () => {
  const { page } = b;
  await signIn(page, url, '/', jid, password);
  await page.locator('[role=grid] [role=row][data-jid]').first().waitFor();
  await page.locator('[data-region=tasks] button').first().click();
  const all = Number(process.env.ARCHIPEL_MACHINES ?? '10');
  await expect.poll(() => on(away), { timeout: 15_000 }).toBe(all);
  await picture(page, 'drain-before');
  writeFileSync(join(folder, 'ready'), '');
  await expect.poll(() => on(away), { timeout: 60_000, interval: 20 }).toBeLessThanOrEqual(all / 2 + 1);
  await picture(page, 'drain-middle');
  await expect.poll(() => on(away), { timeout: 90_000, interval: 50 }).toBe(0);
  await picture(page, 'drain-after');
  writeFileSync(join(folder, 'gone'), '');
  await expect.poll(() => on(away), { timeout: 60_000, interval: 20 }).toBeGreaterThanOrEqual(all / 2);
  await picture(page, 'undrain-middle');
  await expect.poll(() => on(away), { timeout: 90_000, interval: 50 }).toBe(all);
  await page.locator('[data-link=connected]').waitFor();
  writeFileSync(join(folder, 'rows.json'), JSON.stringify(await page.evaluate(() => (window as unknown as { rows: Seen[][] }).rows)));
  expect(b.complaints.filter((c) => !/websocket/i.test(c))).toEqual([]);
});
