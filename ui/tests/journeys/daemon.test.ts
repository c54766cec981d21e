// Against a running daemon: ARCHIPEL_URL, ARCHIPEL_JID, ARCHIPEL_PASSWORD name it, ARCHIPEL_VM a machine that may be
// started, paused, resumed and forced off. Without ARCHIPEL_URL there is nothing to test and the run fails, as a test
// that was asked for and does not run is no test.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectAccessible, openBrowser, picture, row, signIn, type Browser } from '../fake/browser';

const { ARCHIPEL_URL: url = '', ARCHIPEL_JID: jid = 'admin@vm.localhost', ARCHIPEL_PASSWORD: password = '', ARCHIPEL_VM: vm = '' } = process.env;

let b: Browser;
beforeAll(async () => {
  for (const [name, value] of Object.entries({ ARCHIPEL_URL: url, ARCHIPEL_PASSWORD: password, ARCHIPEL_VM: vm })) {
    if (value === '') throw new Error(`set ${name}`);
  }
  b = await openBrowser();
  // Notes when each feed item came over the wire, and its own time of origin.
  await b.page.addInitScript(() => {
    const w = window as unknown as { arrivals: { at: number; wall: number; text: string }[]; seen: { at: number; jid: string; state: string }[]; lines: WebSocket[]; resumed: number };
    w.lines = [];
    w.resumed = 0;
    w.arrivals = [];
    w.seen = [];
    const Native = window.WebSocket;
    window.WebSocket = class extends Native {
      constructor(address: string | URL, protocols?: string | string[]) {
        super(address, protocols);
        w.lines.push(this);
        this.addEventListener('message', (e: MessageEvent<string>) => {
          if (e.data.startsWith('<resumed')) w.resumed++;
          if (e.data.includes('urn:archipel:feed:0') && e.data.includes('headline')) w.arrivals.push({ at: performance.now(), wall: Date.now(), text: e.data });
        });
      }
    };
    addEventListener('DOMContentLoaded', () => {
      new MutationObserver((changes) => {
        const at = performance.now();
        for (const c of changes) {
          const el = c.target as HTMLElement;
          if (c.type === 'attributes' && el.dataset.jid) w.seen.push({ at, jid: el.dataset.jid, state: el.dataset.state ?? '' });
        }
      }).observe(document, { subtree: true, attributes: true, attributeFilter: ['data-state'] });
    });
  });
});
afterAll(async () => {
  await b?.close();
});

const state = () => row(b.page, vm).getAttribute('data-state');
const become = (wanted: string) => row(b.page, vm).and(b.page.locator(`[data-state="${wanted}"]`)).waitFor({ timeout: 30_000 });

async function press(command: string): Promise<void> {
  const { page } = b;
  const button = page.locator(`[data-region=detail] [data-command="domain.${command}"]`);
  await expect.poll(() => button.getAttribute('aria-disabled'), { timeout: 10_000 }).toBe(null);
  await button.click();
  const dialog = page.getByRole('alertdialog');
  if (command === 'force-off' || command === 'reset') await dialog.getByRole('button').last().click();
}

test('a wrong password is told as such', async () => {
  const { page } = b;
  await page.goto(url);
  await page.getByLabel('Address', { exact: true }).fill(jid);
  await page.getByLabel('Password').fill(`${password} wrong`);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.locator('[data-error]').filter({ hasText: 'Wrong address or password' }).waitFor();
});

test('sign in, see the machines, and drive one through its life', async () => {
  const { page } = b;
  const began = performance.now();
  await signIn(page, url, '/', jid, password);
  await row(page, vm).waitFor();
  console.log(`sign-in to list: ${Math.round(performance.now() - began)} ms`);
  await picture(page, 'real-list');
  await row(page, vm).click();
  if (['paused', 'running', 'shutdown', 'pmsuspended'].includes((await state()) ?? '')) {
    await press('force-off');
    await become('shutoff');
  }
  await press('start');
  await become('running');
  await press('pause');
  await become('paused');
  await press('resume');
  await become('running');
  await picture(page, 'real-detail');
  await expectAccessible(page, 'details of a real machine');

  const numbers = await page.evaluate(() => {
    const w = window as unknown as { arrivals: { at: number; wall: number; text: string }[]; seen: { at: number; jid: string; state: string }[] };
    const dom: number[] = [];
    const way: number[] = [];
    for (const a of w.arrivals) {
      const json = new DOMParser().parseFromString(a.text, 'text/xml').getElementsByTagName('json')[0]?.textContent ?? 'null';
      const doc = JSON.parse(json) as { at?: string; entity?: string } | { at?: string; entity?: string }[];
      for (const e of Array.isArray(doc) ? doc : [doc]) {
        if (e?.at) way.push(a.wall - Date.parse(e.at));
        const seen = w.seen.find((s) => s.jid === e?.entity && s.at >= a.at);
        if (seen) dom.push(seen.at - a.at);
      }
    }
    return { dom, way };
  });
  const median = (list: number[]) => [...list].sort((x, y) => x - y)[Math.floor(list.length / 2)]?.toFixed(1) ?? '–';
  console.log(`event to page: median ${median(numbers.way)} ms of ${numbers.way.length}; frame to changed row: median ${median(numbers.dom)} ms of ${numbers.dom.length}`);
  expect(numbers.dom.length).toBeGreaterThan(0);

  await page.getByRole('tab', { name: 'Chat' }).click();
  await page.getByPlaceholder('Say something').fill('status');
  await page.keyboard.press('Enter');
  await page.getByRole('log').getByText(vm).last().waitFor();
  await expect.poll(() => page.getByRole('log').locator('.entity').count()).toBeGreaterThan(0);
  console.log(`the chat said: ${await page.getByRole('log').locator('.entity .body').last().innerText()}`);
  await picture(page, 'real-chat');
});

test('a cut line is resumed by the daemon, and the next change comes through it', async () => {
  const { page } = b;
  const cut = performance.now();
  await page.evaluate(() => (window as unknown as { lines: WebSocket[] }).lines.at(-1)?.close());
  await page.locator('[data-link=offline]').waitFor();
  await page.locator('[data-link=connected]').waitFor();
  console.log(`cut to resumed: ${Math.round(performance.now() - cut)} ms, of it about 1 s of pause before the first try`);
  expect(await page.evaluate(() => (window as unknown as { resumed: number }).resumed)).toBe(1);
  await press('pause');
  await become('paused');
  await press('resume');
  await become('running');
});

test('forms, the definition, tasks and pools are those of the daemon', async () => {
  const { page } = b;
  await page.getByRole('tab', { name: 'More commands' }).click();
  await page.locator('[data-command="domain.xml"]').click();
  await page.getByRole('button', { name: 'Definition (XML)' }).click();
  await page.getByText('<domain').first().waitFor();
  await page.goBack();
  await page.locator('[data-command="domain.note"]').click();
  const note = `noted by a journey at ${new Date().toISOString()}`;
  await page.getByRole('textbox', { name: 'Text' }).fill(note);
  await page.getByRole('tabpanel').getByRole('button', { name: 'Note', exact: true }).click();
  await row(page, vm).getByText(note).waitFor();
  await picture(page, 'real-note');

  await page.getByRole('link', { name: 'Storage pools' }).click();
  await page.locator('[role=grid] [data-jid]').first().click();
  await page.locator('[data-region=detail] [data-command="storage-pool.refresh"]').click();
  await page.getByRole('tab', { name: 'Volumes' }).click();
  await page.getByRole('button', { name: 'Read again' }).waitFor();
  await page.getByRole('link', { name: 'Tasks' }).click();
  await page.locator('[role=grid] [data-jid]').first().waitFor();
  await picture(page, 'real-tasks');
  await page.getByRole('link', { name: 'Hypervisors' }).click();
  await page.locator('[role=grid] [data-jid]').first().click();
  await picture(page, 'real-hypervisor');

  await page.getByRole('link', { name: 'Virtual machines' }).click();
  await row(page, vm).click();
  await press('force-off');
  await become('shutoff');
  expect(b.complaints.filter((c) => !/websocket/i.test(c))).toEqual([]);
});
