import { expect, test } from 'vitest';
import { CELL, smallCell, uuidOf } from '../fake/cell';
import { picture } from '../fake/browser';
import { useBrowser } from './context';

const ctx = useBrowser();

test('the whole journey by keyboard alone: sign in, find, open, pause, chat, close', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  const key = (k: string) => page.keyboard.press(k);
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute('role') ?? document.activeElement?.tagName ?? '');
  await page.goto(server.url);
  await page.getByLabel('Address', { exact: true }).waitFor();
  await page.keyboard.type('admin@vm.localhost');
  await key('Tab');
  await page.keyboard.type('secret');
  await key('Enter');
  await page.locator('[data-link=connected]').waitFor();
  await page.locator('[role=grid]').waitFor();

  await key('F6');
  expect(await focused()).toBe('tree');
  await key('F6');
  expect(await focused()).toBe('grid');
  await key('/');
  expect(await focused()).toBe('INPUT');
  await page.keyboard.type('web');
  await key('ArrowDown');
  expect(await focused()).toBe('grid');
  await key('ArrowDown');
  await key('ArrowDown');
  await key('Enter');
  await page.getByRole('heading', { name: 'web2' }).waitFor();
  await picture(page, 'keyboard');

  await key('F6');
  for (let i = 0; i < 12 && (await page.evaluate(() => document.activeElement?.getAttribute('data-command'))) !== 'domain.pause'; i++) await key('Tab');
  await key('Enter');
  await page.locator(`[data-jid="${uuidOf(2)}@${CELL}"][data-state=paused]`).waitFor();

  // The first Escape takes the hint of the focused button away, the next one closes the details.
  await page.locator('.tip').waitFor();
  await key('Escape');
  await page.locator('.tip').waitFor({ state: 'hidden' });
  await key('Escape');
  await page.getByRole('heading', { name: 'web2' }).waitFor({ state: 'hidden' });
  expect(await focused()).toBe('grid');
  await key('?');
  await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
  await key('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await expect.poll(focused).toBe('grid');

  await key('g');
  await key('h');
  await page.getByRole('heading', { name: 'Hypervisors', level: 1 }).waitFor();
  await key('Control+k');
  await page.keyboard.type('db-pri');
  await key('Enter');
  await page.getByRole('heading', { name: 'db-primary' }).waitFor();
});

test('the tree folds and opens with the arrows', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  const { signIn } = await import('../fake/browser');
  await signIn(page, server.url);
  const tree = page.getByRole('tree');
  await tree.focus();
  const item = (name: string) => tree.getByRole('treeitem', { name });
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowRight');
  await item('storage-net').waitFor();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'default' }).waitFor();
  expect(page.url()).toContain('/networks');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  await item('storage-net').waitFor({ state: 'hidden' });
  await page.getByLabel('Filter the tree').fill('mail');
  await expect.poll(() => tree.getByRole('treeitem').count()).toBe(3);
});
