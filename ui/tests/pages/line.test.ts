import { expect, test } from 'vitest';
import { CELL, smallCell, uuidOf } from '../fake/cell';
import { expectAccessible, picture, row, signIn } from '../fake/browser';
import { useBrowser } from './context';

const ctx = useBrowser();
const jid = (n: number) => `${uuidOf(n)}@${CELL}`;
const inState = (n: number, state: string) => ctx.browser.page.locator(`[role=row][data-jid="${jid(n)}"][data-state=${state}]`);
const link = (phase: string) => ctx.browser.page.locator(`[data-link=${phase}]`);

test('a cut line is shown, resumed, and nothing is missed', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  await inState(1, 'running').waitFor();
  server.accepting = false;
  server.cut();
  await page.getByRole('alert').getByText('Connection lost').waitFor();
  await picture(page, 'offline');
  await expectAccessible(page, 'offline');
  expect(await page.locator('[data-command="domain.pause"]').getAttribute('aria-disabled')).toBe('true');
  cell.change(jid(1), 'domain.paused', { state: 'paused' });
  cell.change(jid(2), 'domain.stopped', { state: 'shutoff' });
  expect(await inState(1, 'running').count()).toBe(1);
  server.accepting = true;
  await link('connected').waitFor();
  await inState(1, 'paused').waitFor();
  await inState(2, 'shutoff').waitFor();
  expect(server.streams.size).toBe(1);
});

test('beyond the resumption window everything is read again, and what went meanwhile is gone', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await inState(1, 'running').waitFor();
  server.cut(true);
  cell.change(jid(1), 'domain.paused', { state: 'paused' });
  cell.remove(jid(2), 'domain.undefined');
  await inState(1, 'paused').waitFor();
  await row(page, 'web2').waitFor({ state: 'hidden' });
  await link('connected').waitFor();
});

test('a hole in the items reads the snapshot again', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await inState(1, 'running').waitFor();
  cell.change(jid(4), 'domain.rebooted', {});
  await page.getByText('db-primary rebooted', { exact: true }).last().waitFor();
  // The server dropped what it could not deliver: the state changed and nobody told.
  const e = cell.entities.get(jid(1));
  cell.entities.set(jid(1), { ...e, state: 'paused', libvirt_state: 'paused', seq: Number(e?.seq) + 1 });
  server.push([cell.event(cell.entities.get(jid(3)) ?? {}, 'domain.changed')], 3);
  await inState(1, 'paused').waitFor();
});

test('a command whose line is lost fails and is not repeated on a new stream', async () => {
  const cell = smallCell();
  cell.scripts.set('domain.force-off', () => ({ silent: true }));
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  await page.getByRole('button', { name: /^Force off/ }).click();
  await page.getByRole('alertdialog').getByRole('button', { name: 'Force off' }).click();
  await expect.poll(() => cell.commands.length).toBe(1);
  server.cut(true);
  await page.getByText('the connection was lost before the answer came').last().waitFor();
  await link('connected').waitFor();
  await row(page, 'web1').waitFor();
  // A command given now is the next one the server sees: the lost one was not sent again before it.
  await page.locator('[data-command="domain.pause"]').click();
  await inState(1, 'paused').waitFor();
  expect(cell.commands.map((c) => c.node)).toEqual(['domain.force-off', 'domain.pause']);
});

test('a refused sign-in while reconnecting leads back to the sign-in page', async () => {
  const server = await ctx.serve(smallCell(), { accounts: { admin: 'secret' } });
  const { page } = ctx.browser;
  await signIn(page, server.url);
  server.options.accounts = { admin: 'changed' };
  server.cut(true);
  await page.getByText('You were signed out because the server refused').waitFor();
});
