import { expect, test } from 'vitest';
import { smallCell } from '../fake/cell';
import { expectAccessible, picture, row, signIn } from '../fake/browser';
import { useBrowser } from './context';

const ctx = useBrowser();
const error = () => ctx.browser.page.locator('[data-error]');

async function attempt(jid: string, password: string): Promise<void> {
  const { page } = ctx.browser;
  await page.getByLabel('Address', { exact: true }).fill(jid);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

test('the sign-in page is accessible, also with its errors', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await page.goto(server.url);
  await expectAccessible(page, 'sign-in');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('Fill this in.').first().waitFor();
  await expectAccessible(page, 'sign-in with errors');
});

test('each cause of failure has its own words', async () => {
  const server = await ctx.serve(smallCell(), { accounts: { admin: 'secret', guest: 'secret' }, disabled: ['guest'] });
  const { page } = ctx.browser;
  await page.goto(server.url);
  await attempt('admin', 'secret');
  await page.getByText('Write the whole address').waitFor();
  await attempt('admin@vm.localhost', 'wrong');
  await error().filter({ hasText: 'Wrong address or password' }).waitFor();
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('password');
  await picture(page, 'signin-wrong');
  await attempt('guest@vm.localhost', 'secret');
  await error().filter({ hasText: 'may not sign in here (account-disabled)' }).waitFor();
  await attempt('admin@elsewhere.example', 'secret');
  await error().filter({ hasText: 'does not serve elsewhere.example' }).waitFor();
  server.accepting = false;
  await attempt('admin@vm.localhost', 'secret');
  await error().filter({ hasText: 'cannot be reached at ws://' }).waitFor();
  server.accepting = true;
  await attempt('admin@vm.localhost', 'secret');
  await row(page, 'web1').waitFor();
});

test('the address is remembered only when asked', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await page.goto(server.url);
  await page.getByLabel('Remember my address').check();
  await attempt('admin@vm.localhost', 'secret');
  await row(page, 'web1').waitFor();
  await page.reload();
  expect(await page.getByLabel('Address', { exact: true }).inputValue()).toBe('admin@vm.localhost');
  await page.getByLabel('Remember my address').uncheck();
  await attempt('admin@vm.localhost', 'secret');
  await row(page, 'web1').waitFor();
  await page.reload();
  expect(await page.getByLabel('Address', { exact: true }).inputValue()).toBe('');
});

test('signing out ends the stream and shows nothing of the cell', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await page.getByRole('button', { name: 'Signed in as admin@vm.localhost' }).click();
  await page.getByRole('menuitem', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  expect(await page.getByText('web1').count()).toBe(0);
  await expect.poll(() => server.connected, { timeout: 5000 }).toBe(0);
  expect(server.streams.size).toBe(0);
});
