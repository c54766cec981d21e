// Ten thousand machines: everything must arrive and only what is seen may be in the page. Times are printed for people.
import { expect, test } from 'vitest';
import { bigCell, CELL, uuidOf } from '../fake/cell';
import { picture, row } from '../fake/browser';
import { useBrowser } from './context';

const ctx = useBrowser();
const MACHINES = 10_000;

test('ten thousand machines are listed, pushed and filtered; the times are printed, not judged', async () => {
  const cell = bigCell(MACHINES);
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await page.addInitScript(() => {
    const w = window as unknown as { longest: number };
    w.longest = 0;
    new PerformanceObserver((l) => l.getEntries().forEach((e) => (w.longest = Math.max(w.longest, e.duration)))).observe({ type: 'longtask', buffered: true });
  });
  await page.goto(server.url);
  await page.getByLabel('Address', { exact: true }).fill('admin@vm.localhost');
  await page.getByLabel('Password').fill('secret');
  const began = performance.now();
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.locator('h1 + [role=status]').filter({ hasText: /^10,000$/ }).waitFor();
  const list = performance.now() - began;
  await picture(page, 'ten-thousand');
  expect(await page.locator('[role=grid] [data-jid]').count()).toBeLessThan(80);

  // From the call that sends to the changed row.
  const times: number[] = [];
  for (let i = 0; i < 60; i++) {
    const state = i % 2 === 0 ? 'paused' : 'running';
    const changed = page.evaluate(
      (target) =>
        new Promise<number>((done) => {
          const element = document.querySelector(`[role=row][data-jid="${target}"]`);
          new MutationObserver((_, o) => {
            o.disconnect();
            done(performance.timeOrigin + performance.now());
          }).observe(element as Element, { attributes: true, attributeFilter: ['data-state'] });
          document.documentElement.dataset.armed = String(Math.random());
        }),
      `${uuidOf(0)}@${CELL}`,
    );
    const armed = await page.evaluate(() => document.documentElement.dataset.armed);
    expect(armed).toBeTruthy();
    const sent = performance.timeOrigin + performance.now();
    cell.change(`${uuidOf(0)}@${CELL}`, 'domain.changed', { state });
    times.push((await changed) - sent);
  }
  times.sort((a, b) => a - b);
  const p50 = times[30] ?? 0;
  const p95 = times[57] ?? 0;

  // A burst over a fifth of the cell.
  const burst = performance.now();
  for (let n = 0; n < 2000; n++) cell.change(`${uuidOf(n)}@${CELL}`, 'domain.started', { state: 'running' });
  await page.locator('.toast', { hasText: /[12],\d{3} machines started/ }).waitFor();
  await page.locator('[data-counts]').filter({ hasText: '6,800 of' }).waitFor();
  const burstMs = performance.now() - burst;

  const filtered = performance.now();
  await page.getByLabel('Filter virtual machines').fill('vm-9999');
  await row(page, 'vm-9999').waitFor();
  const filterMs = performance.now() - filtered;
  await page.getByLabel('Filter virtual machines').fill('');
  await page.locator('[role=grid]').focus();
  await page.keyboard.press('End');
  await row(page, 'vm-9999').waitFor();
  const longest = await page.evaluate(() => (window as unknown as { longest: number }).longest);
  const round = (n: number) => Math.round(n * 10) / 10;
  console.log(`10,000 machines: list ${round(list)} ms, push p50 ${round(p50)} ms p95 ${round(p95)} ms, burst of 2,000 ${round(burstMs)} ms, filter ${round(filterMs)} ms, longest task ${round(longest)} ms`);
});
