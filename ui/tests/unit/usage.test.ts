import { expect, test, vi } from 'vitest';
import { formatCpu, formatRate, usageRows } from '../../src/domain/usage';
import { Topics } from '../../src/store/topics';
import { parseFrame, UsageBoard } from '../../src/store/usage';

test('figures are written as people read them', () => {
  expect([formatCpu(0), formatCpu(55), formatCpu(1000), formatCpu(3999)]).toEqual(['0.0 %', '5.5 %', '100 %', '400 %']);
  expect(formatRate(2048)).toBe('2 KiB/s');
  expect(usageRows(undefined)).toEqual([]);
  expect(usageRows({ cpu: 1000, memory: 2 ** 30, memory_used: 2 ** 29, disk_read: 0, disk_written: 4096 }).map((r) => r.text)).toEqual([
    '100 %', '512 MiB / 1 GiB', 'R 0 B/s W 4 KiB/s',
  ]);
  expect(usageRows({ cpu: 500, cpus: 4, memory: 1024 }).map((r) => r.text)).toEqual(['50 % / 400 %', '1 KiB']);
});

test('frames are merged, and what is gone is gone', async () => {
  const topics = new Topics();
  const board = new UsageBoard(topics, () => {});
  let told = 0;
  topics.listen('usage:m1@c', () => told++);
  board.take({ host: 'alpha', node: { cpu: 5 }, machines: { m1: { cpu: 1 }, m2: { cpu: 2 } } }, 'c');
  board.take({ host: 'alpha', node: { cpu: 6 }, machines: { m2: null } }, 'c');
  expect([board.get('hv.alpha@c')?.cpu, board.get('m1@c')?.cpu, board.get('m2@c')]).toEqual([6, 1, undefined]);
  await vi.waitFor(() => expect(told).toBe(1));
  expect(parseFrame({ host: 'alpha' })).toEqual({ host: 'alpha' });
  expect([parseFrame(undefined), parseFrame({}), parseFrame('x')]).toEqual([undefined, undefined, undefined]);
});

test('the cell is told when the first begins to look and when the last looks away', () => {
  const said: boolean[] = [];
  const board = new UsageBoard(new Topics(), (on) => said.push(on));
  const [one, two] = [board.look(), board.look()];
  board.take({ host: 'alpha', machines: { m1: { cpu: 1 } } }, 'c');
  one();
  one();
  expect([said, board.isLookedAt]).toEqual([[true], true]);
  board.show(false);
  board.show(true);
  expect(said.splice(0)).toEqual([true, false, true]);
  board.take({ host: 'alpha', machines: { m1: { cpu: 1 } } }, 'c');
  two();
  expect([said, board.isLookedAt, board.get('m1@c')]).toEqual([[false], false, undefined]);
});
