import { expect, test } from 'vitest';
import { CELL, smallCell, uuidOf } from '../fake/cell';
import { row, signIn } from '../fake/browser';
import { useBrowser } from './context';

const ctx = useBrowser();
const jid = (n: number) => `${uuidOf(n)}@${CELL}`;
const inState = (n: number, state: string) => ctx.browser.page.locator(`[role=row][data-jid="${jid(n)}"][data-state=${state}]`);

test('when its exchange is gone the page moves to the one that took over, says so and is current', async () => {
  const cell = smallCell();
  const first = await ctx.serve(cell);
  const second = await ctx.serve(cell);
  first.others = [second.url];
  const { page } = ctx.browser;
  await signIn(page, first.url);
  await row(page, 'web1').waitFor();
  expect(second.connected).toBe(0);
  cell.change(jid(1), 'domain.paused', { state: 'paused' });
  await inState(1, 'paused').waitFor();
  first.accepting = false;
  first.cut(true);
  cell.change(jid(1), 'domain.resumed', { state: 'running' });
  await page.getByText(`Moved to ${second.url.replace('http://', '')}`).first().waitFor();
  await inState(1, 'running').waitFor();
  cell.change(jid(2), 'domain.stopped', { state: 'shutoff' });
  await inState(2, 'shutoff').waitFor();
  expect([first.connected, second.connected]).toEqual([0, 1]);
});

test('an exchange that is away when somebody signs in is passed over', async () => {
  const cell = smallCell();
  const first = await ctx.serve(cell);
  const second = await ctx.serve(cell);
  first.others = [second.url];
  first.accepting = false;
  await signIn(ctx.browser.page, first.url);
  await row(ctx.browser.page, 'web1').waitFor();
  expect(second.connected).toBe(1);
});
