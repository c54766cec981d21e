// The consoles of a running Linux guest in the page, against a running daemon: ARCHIPEL_URL, ARCHIPEL_JID, ARCHIPEL_PASSWORD name it,
// ARCHIPEL_VM the guest's UUID. Run by tests/real/topics/console_page.py.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectAccessible, openBrowser, picture, signIn, type Browser } from '../fake/browser';

const { ARCHIPEL_URL: url = '', ARCHIPEL_JID: jid = 'admin@vm.localhost', ARCHIPEL_PASSWORD: password = '', ARCHIPEL_VM: vm = '' } = process.env;

let b: Browser;
beforeAll(async () => {
  for (const [name, value] of Object.entries({ ARCHIPEL_URL: url, ARCHIPEL_PASSWORD: password, ARCHIPEL_VM: vm })) {
    if (value === '') throw new Error(`set ${name}`);
  }
  b = await openBrowser();
  await signIn(b.page, url.replace(/\/$/, ''), `/vms?sel=${vm}&tab=console`, jid, password);
  await b.page.getByRole('button', { name: 'Open', exact: true }).waitFor();
});
afterAll(async () => {
  await b?.close();
});

const place = (phase: string) => b.page.locator(`[role=application][data-phase="${phase}"]`);

/** How many pixels of the canvas are bright: text on a dark screen. */
const bright = () =>
  b.page.evaluate(() => {
    const canvas = document.querySelector<HTMLCanvasElement>('[role=application] canvas');
    if (!canvas || canvas.width === 0 || canvas.height === 0) return 0;
    const data = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data ?? new Uint8ClampedArray();
    let n = 0;
    for (let i = 0; i < data.length; i += 4) if ((data[i] ?? 0) + (data[i + 1] ?? 0) + (data[i + 2] ?? 0) > 240) n++;
    return n;
  });

test('the page stays small: what shows consoles is loaded when somebody asks for it', async () => {
  const loaded = await b.page.evaluate(() => performance.getEntriesByType('resource').map((e) => e.name));
  expect(loaded.filter((name) => /(screen|line)\.js/.test(name))).toEqual([]);
});

test('the screen shows the text of the guest and takes keys', async () => {
  const { page } = b;
  await expectAccessible(page, 'the console panel');
  await page.getByRole('button', { name: 'Open', exact: true }).focus();
  await page.keyboard.press('Enter');
  await place('open').waitFor({ timeout: 30_000 });
  await expect.poll(bright, { timeout: 60_000 }).toBeGreaterThan(50);
  await page.keyboard.press('Enter');
  await page.keyboard.type('clear; echo; echo archipel-on-the-screen', { delay: 30 });
  await page.keyboard.press('Enter');
  await expect.poll(bright, { timeout: 30_000 }).toBeGreaterThan(300);
  await picture(page, 'console-screen');
  // The way out by keyboard alone.
  await page.keyboard.press('Control+Alt+Shift+Escape');
  await expect.poll(() => page.evaluate(() => document.activeElement?.textContent)).toBe('Close the console');
  await page.keyboard.press('Enter');
  await place('closed').waitFor({ state: 'attached' });
});

test('the serial line answers in the terminal of the page', async () => {
  const { page } = b;
  await page.getByRole('radio', { name: 'Serial line' }).check();
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await place('open').waitFor({ timeout: 30_000 });
  await page.keyboard.press('Enter');
  const rows = page.locator('.xterm-accessibility');
  await expect.poll(() => rows.textContent(), { timeout: 60_000 }).toContain('guest#');
  await page.keyboard.type('echo $((6*7))-in-the-browser', { delay: 20 });
  await page.keyboard.press('Enter');
  await expect.poll(() => rows.textContent(), { timeout: 30_000 }).toContain('42-in-the-browser');
  await picture(page, 'console-serial');
  await page.getByRole('button', { name: 'Close the console' }).click();
  await place('closed').waitFor({ state: 'attached' });
  expect(b.complaints.filter((c) => !/websocket/i.test(c))).toEqual([]);
});
