import { expect, test } from 'vitest';
import { CELL, FakeCell, smallCell, uuidOf } from '../fake/cell';
import { expectAccessible, picture, row, signIn } from '../fake/browser';
import { useBrowser } from './context';

const ctx = useBrowser();
const jid = (n: number) => `${uuidOf(n)}@${CELL}`;
const action = (name: string) => ctx.browser.page.locator('[data-region=detail]').getByRole('button', { name, exact: true });
const reasonOf = (name: string) =>
  action(name).evaluate((el) => document.getElementById(el.getAttribute('aria-describedby') ?? '')?.textContent ?? '');

test('every view is accessible in light and dark', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').waitFor();
  await picture(page, 'list');
  await expectAccessible(page, 'list');
  await row(page, 'web1').click();
  await action('Pause').waitFor();
  await expectAccessible(page, 'detail');
  await picture(page, 'detail');
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, 'detail-dark');
  await page.getByRole('tab', { name: 'More commands' }).click();
  await expectAccessible(page, 'commands');
  await page.locator('[data-command="domain.rename"]').click();
  await expectAccessible(page, 'form');
  await page.getByRole('tab', { name: 'Chat' }).click();
  await expectAccessible(page, 'chat');
  for (const [view, first] of [['Hypervisors', 'beta'], ['Networks', 'storage-net'], ['Storage pools', 'iso'], ['Tasks', 'Shut down']] as const) {
    await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: view }).click();
    await row(page, first).first().click();
    await expectAccessible(page, view);
    await picture(page, `view-${view.toLowerCase().replace(' ', '-')}`);
  }
  await page.getByRole('button', { name: 'Tasks', exact: true }).click();
  await picture(page, 'tasks-open');
  await expectAccessible(page, 'task bar');
});

test('dialogs, palette and notices are accessible', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  await page.getByRole('button', { name: /^Force off/ }).click();
  await page.getByRole('alertdialog').waitFor();
  await picture(page, 'confirm');
  await expectAccessible(page, 'confirmation');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox').fill('web');
  await picture(page, 'palette');
  await expectAccessible(page, 'palette');
  await page.keyboard.press('Escape');
  cell.change(jid(2), 'domain.crashed', { state: 'crashed' });
  cell.change(jid(4), 'domain.paused', { state: 'paused' });
  await page.getByText('web2 crashed', { exact: true }).last().waitFor();
  await picture(page, 'toasts');
  await expectAccessible(page, 'toasts');
  await page.getByRole('button', { name: 'Close the details' }).click();
  await page.getByRole('button', { name: /Notices, \d+ unread/ }).click();
  await page.getByText('What happened').waitFor();
  await picture(page, 'bell');
  await expectAccessible(page, 'bell');
});

test('an empty cell says what to do', async () => {
  const cell = new FakeCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await page.getByText('No virtual machines yet').waitFor();
  await picture(page, 'empty');
  await expectAccessible(page, 'empty');
  await page.getByRole('link', { name: 'Hypervisors' }).click();
  await page.getByText('Add a [[hypervisor]] section').waitFor();
  // The first hypervisor arrives: now a machine can be defined from here.
  cell.tell([cell.event(cell.hypervisor('alpha'), 'hypervisor.connected')]);
  await page.getByRole('link', { name: 'Virtual machines' }).click();
  await page.getByRole('button', { name: 'New virtual machine …' }).first().click();
  await page.getByLabel(/^Name/).fill('first');
  await page.getByRole('button', { name: 'Define a virtual machine' }).click();
  await row(page, 'first').waitFor();
  expect(cell.commands.at(-1)).toMatchObject({ node: 'domain.define', to: `hv.alpha@${CELL}`, args: { name: 'first', memory: 1073741824, vcpus: 1, graphics: 'vnc' } });
});

test('a verb waits for the event and shows nothing before', async () => {
  const cell = smallCell();
  let release = () => {};
  cell.scripts.set('domain.pause', (to) => {
    release = () => cell.change(to, 'domain.paused', { state: 'paused' });
    return { answer: { message: 'pausing' } };
  });
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  await action('Pause').click();
  await page.getByText('Waiting for pause …').first().waitFor();
  expect(await row(page, 'web1').getAttribute('data-state')).toBe('running');
  release();
  await page.locator(`[data-jid="${jid(1)}"][data-state=paused]`).waitFor();
  await page.getByText('Waiting for pause …').first().waitFor({ state: 'hidden' });
  expect(cell.commands[0]?.op).toMatch(/^[0-9a-f-]{36}$/);
});

test('what may not happen now is disabled with its reason', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  expect(await action('Start').getAttribute('aria-disabled')).toBe('true');
  expect(await reasonOf('Start')).toBe('web1 is running already.');
  await action('Start').click({ force: true });
  await row(page, 'windows-test').click();
  expect(await reasonOf('Resume')).toBe('windows-test is off; start it instead.');
  await action('Resume').hover();
  await page.locator('.tip').waitFor();
  await picture(page, 'refused');
  await row(page, 'legacy-erp').click();
  expect(await reasonOf('Start')).toContain('Broken pipe');
  await picture(page, 'control-lost');
  expect(cell.commands).toEqual([]);
});

test('a refusal of the server is told in its words', async () => {
  const cell = smallCell();
  cell.scripts.set('domain.pause', () => ({ refuse: { kind: 'forbidden', condition: 'forbidden', message: 'admin@vm.localhost has the role viewer', cause: 'rule 7' } }));
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  await action('Pause').click();
  await page.getByText('Pause web1: admin@vm.localhost has the role viewer (rule 7)').last().waitFor();
  expect(await row(page, 'web1').getAttribute('data-state')).toBe('running');
});

test('destructive commands ask, and no means no', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  const button = page.getByRole('button', { name: /^Force off/ });
  await button.click();
  const dialog = page.getByRole('alertdialog');
  await dialog.getByText('Virtual machine web1 on alpha').waitFor();
  await dialog.getByText('The guest cannot save anything').waitFor();
  await dialog.getByRole('button', { name: 'Leave it' }).click();
  await dialog.waitFor({ state: 'hidden' });
  expect(cell.commands).toEqual([]);
  await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute('data-command'))).toBe('domain.force-off');
  await button.click();
  await dialog.getByRole('button', { name: 'Force off' }).click();
  await page.locator(`[data-jid="${jid(1)}"][data-state=shutoff]`).waitFor();
});

test('other commands come from the catalog: form, checks and answer', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url, `/vms?sel=${uuidOf(1)}&tab=commands&cmd=domain.rename`);
  await page.getByRole('button', { name: 'Rename' }).waitFor();
  expect(await page.getByText('web1 can only be renamed while it is off.').count()).toBe(1);
  await page.goto(`${server.url}/vms?sel=${uuidOf(1)}&tab=commands`);
  await signIn(page, server.url, `/vms?sel=${uuidOf(1)}&tab=commands`);
  await page.locator('[data-command="domain.xml"]').click();
  await page.getByRole('button', { name: 'Definition (XML)' }).click();
  await page.getByText("<domain type='kvm'>").waitFor();
  await picture(page, 'xml');
  await page.goBack();
  await page.locator('[data-command="domain.note"]').click();
  await page.getByRole('textbox', { name: 'Text' }).fill('for the <shop> & more');
  await page.getByRole('tabpanel').getByRole('button', { name: 'Note', exact: true }).click();
  await row(page, 'web1').getByText('for the <shop> & more').waitFor();
  await page.goBack();
  await page.locator('[data-command="domain.info"]').click();
  await page.getByRole('button', { name: 'Show everything' }).click();
  await page.getByRole('heading', { name: 'Result' }).waitFor();
});

test('a pool shows its volumes', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await signIn(page, server.url, `/storage?sel=pool.${uuidOf(201)}`);
  await page.getByRole('tab', { name: 'Volumes' }).click();
  await page.getByRole('cell', { name: 'debian-12.qcow2' }).waitFor();
  await picture(page, 'volumes');
  await row(page, 'iso').click();
  await page.getByRole('tabpanel').getByText('iso is not started.').waitFor();
});

test('a machine answers in the chat', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await signIn(page, server.url, `/vms?sel=${uuidOf(1)}&tab=chat`);
  await page.getByPlaceholder('Say something').fill('status');
  await page.keyboard.press('Enter');
  await page.getByText('web1 is running on alpha').waitFor();
  await picture(page, 'chat');
});

test('a task shows its progress and can be cancelled', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  const bar = page.getByRole('progressbar', { name: 'Shut down backup' });
  await bar.waitFor();
  cell.change(`task.${uuidOf(301)}@${CELL}`, 'task.progressed', { percent: 70 });
  await expect.poll(() => bar.getAttribute('aria-valuenow')).toBe('70');
  await page.getByRole('button', { name: 'Cancel Shut down backup' }).click();
  await page.getByText('No task is running').waitFor();
});

test('equal notices merge', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').waitFor();
  for (const n of [1, 2, 3, 4]) cell.change(jid(n), 'domain.rebooted', {});
  await page.locator('.toast', { hasText: '4 machines rebooted' }).waitFor();
  expect(await page.locator('.toast').count()).toBe(1);
  await page.getByRole('button', { name: 'Notices, 4 unread' }).waitFor();
});

test('the address keeps selection and filter, and Back goes back', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await page.getByLabel('Filter virtual machines').fill('host:beta state:running');
  await row(page, 'mail').click();
  await expect.poll(() => page.url()).toContain(`sel=${uuidOf(6)}`);
  expect(page.url()).toContain('q=host');
  await row(page, 'dns1').click();
  await page.getByRole('heading', { name: 'dns1' }).waitFor();
  await page.goBack();
  await page.getByRole('heading', { name: 'mail' }).waitFor();
  await page.goBack();
  await page.getByRole('heading', { name: 'mail' }).waitFor({ state: 'hidden' });
  expect(await row(page, 'web1').count()).toBe(0);
});

test('a machine that is gone leaves the list, and its details say so', async () => {
  const cell = smallCell();
  const server = await ctx.serve(cell);
  const { page } = ctx.browser;
  await signIn(page, server.url);
  await row(page, 'web1').click();
  cell.remove(jid(1), 'domain.undefined');
  await row(page, 'web1').waitFor({ state: 'hidden' });
  await page.getByText('This entity is gone').waitFor();
  await page.getByText('web1 is gone', { exact: true }).last().waitFor();
});
