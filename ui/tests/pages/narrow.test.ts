import { test } from 'vitest';
import { expectAccessible, picture, row, signIn } from '../fake/browser';
import { smallCell, uuidOf } from '../fake/cell';
import { useBrowser } from './context';

const ctx = useBrowser({ width: 800, height: 700 });

test('on a narrow screen the details lie over the list, and everything keeps its name', async () => {
  const server = await ctx.serve(smallCell());
  const { page } = ctx.browser;
  await signIn(page, server.url, `/vms?sel=${uuidOf(1)}&tab=commands&cmd=domain.rename`);
  await page.getByRole('tabpanel').getByRole('heading', { name: 'Rename' }).waitFor();
  await picture(page, 'narrow');
  // What lies under the details is out of reach until they are closed; the rest of the page is checked.
  await expectAccessible(page, 'narrow, details open');
  await page.getByRole('button', { name: 'Close the details' }).click();
  await row(page, 'web1').waitFor();
  await expectAccessible(page, 'narrow');
});
