import { expect, test } from 'vitest';
import { command, mainCommands, mayRun, moreCommands, type Argument } from '../../src/domain/catalog';
import { catalog } from '../../src/domain/contract.gen';
import { KINDS, type Entity } from '../../src/domain/entity';
import { factRows } from '../../src/domain/facts';
import { initialValues, readForm } from '../../src/domain/form';
import { addressProblem, socketAddress, uuid } from '../../src/domain/session';
import { formatBytes, parseBytes } from '../../src/domain/units';
import { parseVolumes } from '../../src/domain/volume';
import { eventWords } from '../../src/i18n/en';
import { factWord, fill, t, verbWord } from '../../src/i18n/t';
import { COLUMNS } from '../../src/components/columns';
import { formatRoute, kindOfLocal, parseRoute } from '../../src/routes';

const machine = (state: string, more: Partial<Entity> = {}): Entity => ({
  kind: 'domain', id: 'x', jid: 'x@c', name: 'web1', state, host: 'a', epoch: 1, seq: 1, since: '', condition: 'ok', facts: {}, ...more,
});
const get = (name: string) => {
  const c = command(name);
  if (!c) throw new Error(`no ${name}`);
  return c;
};

test('every command of a kind that is for people is a button or a form, and none is both', () => {
  for (const kind of KINDS) {
    // Consoles have a panel of their own.
    const all = catalog.commands.filter((c) => c.target === kind && c.access !== 'node' && c.name !== 'domain.console').map((c) => c.name);
    const shown = [...mainCommands(kind), ...moreCommands(kind)].map((c) => c.name);
    expect(shown.sort()).toEqual(all.sort());
  }
  expect(mainCommands('domain')).toHaveLength(7);
});

test('the policy refuses with the reason of the catalog', () => {
  expect(mayRun(get('domain.start'), machine('shutoff'))).toEqual({ allowed: true });
  expect(mayRun(get('domain.start'), machine('running'))).toEqual({ allowed: false, reason: 'is running already' });
  expect(mayRun(get('domain.resume'), machine('paused'))).toEqual({ allowed: true });
});

test('what is out of control may be read and not changed', () => {
  const lost = machine('unknown', { condition: 'control-lost', why: 'libvirt is gone' });
  expect(mayRun(get('domain.info'), lost)).toEqual({ allowed: true });
  expect(mayRun(get('domain.start'), lost)).toEqual({ allowed: false, reason: 'cannot be controlled now: libvirt is gone' });
  const away = machine('unknown', { condition: 'unreachable' });
  expect(mayRun(get('domain.force-off'), away)).toMatchObject({ allowed: false });
});

test('a form starts with the defaults and sends what was given', () => {
  const { arguments: args } = get('domain.define');
  const values = initialValues(args);
  expect(values).toMatchObject({ name: '', memory: '1 GiB', vcpus: '1', graphics: 'vnc', disk: '' });
  expect(readForm(args, values)).toEqual({ errors: { name: 'required' } });
  expect(readForm(args, { ...values, name: 'a', memory: '1.5 GiB' })).toEqual({ arguments: { name: 'a', memory: 1610612736, vcpus: 1, graphics: 'vnc' } });
});

test('each kind of mistake is told at its field', () => {
  const args: Argument[] = [
    { name: 'n', kind: 'integer', required: true, minimum: 1, maximum: 5, description: '' },
    { name: 'b', kind: 'bytes', required: false, description: '' },
    { name: 'c', kind: 'choice', required: true, choices: ['x', 'y'], description: '' },
    { name: 'f', kind: 'boolean', required: false, description: '' },
  ];
  expect(initialValues(args)).toEqual({ n: '', b: '', c: 'x', f: false });
  expect(readForm(args, { n: '1.5', b: 'much', c: 'z', f: true })).toEqual({ errors: { n: 'not-a-number', b: 'not-a-size', c: 'not-a-choice' } });
  expect(readForm(args, { n: '0', b: '', c: 'x', f: true })).toEqual({ errors: { n: { least: 1 } } });
  expect(readForm(args, { n: '6', b: '', c: 'x', f: true })).toEqual({ errors: { n: { most: 5 } } });
  expect(readForm(args, { n: '5', b: '2 MiB', c: 'y', f: true })).toEqual({ arguments: { n: 5, b: 2097152, c: 'y', f: true } });
});

test('an emptied text with an empty default is sent, as it means to forget', () => {
  expect(readForm(get('domain.note').arguments, { text: '' })).toEqual({ arguments: { text: '' } });
});

test('sizes read back as they are shown', () => {
  for (const n of [0, 1, 1024, 1536, 512 * 2 ** 20, 2 ** 30, 3 * 2 ** 40]) expect(parseBytes(formatBytes(n)) ?? Math.round(parseFloat(formatBytes(n)) * 1024)).toBe(n);
  expect(formatBytes(1610612736)).toBe('1.5 GiB');
  for (const bad of ['', 'x', '-1', '1x', '99999999999 TiB']) expect(parseBytes(bad)).toBeUndefined();
});

test('every fact is shown, also one nobody has a word for', () => {
  const rows = factRows(machine('running', { facts: { memory: 2 ** 30, autostart: false, tea_pot: 'brown', note: 'hidden', fault: { message: 'm', cause: 'c' } } }));
  expect(rows.slice(0, 4)).toEqual([
    { key: 'memory', value: '1 GiB' },
    { key: 'autostart', value: false },
    { key: 'tea_pot', value: 'brown' },
    { key: 'fault', value: 'm (c)' },
  ]);
  expect(factWord('tea_pot')).toBe('Tea pot');
});

test('volumes parse and sort', () => {
  expect(parseVolumes([{ name: 'b', capacity: 1 }, { name: 'a', format: 'raw' }, null, { x: 1 }]).map((v) => v.name)).toEqual(['a', 'b']);
  expect(parseVolumes('no')).toEqual([]);
});

test('addresses are checked before anything is sent', () => {
  expect(addressProblem('admin')).toBe('no-domain');
  for (const bad of ['@c', 'a@', 'a b@c', 'a@c/web', '"@x', 'a@-c']) expect(addressProblem(bad)).toBe('bad-address');
  for (const good of ['admin@vm.localhost', 'a.b+c@x']) expect(addressProblem(good)).toBeUndefined();
  expect(socketAddress({ protocol: 'https:', host: 'x:1' })).toBe('wss://x:1/xmpp-websocket');
  expect(uuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('routes survive the address bar', () => {
  const route = { kind: 'network' as const, selected: 'net.1', tab: 'commands' as const, command: 'network.stop', filter: 'a b&c', sort: '-host' };
  expect(parseRoute(new URL(formatRoute(route), 'http://x'))).toEqual(route);
  expect(parseRoute(new URL('http://x/nowhere?tab=evil'))).toMatchObject({ kind: 'domain', tab: 'overview', selected: undefined });
  expect(['hv.a', 'net.1', 'pool.1', 'task.1', '0-1'].map(kindOfLocal)).toEqual(['hypervisor', 'network', 'storage-pool', 'task', 'domain']);
});

test('every topic has words, except progress nobody is told of', () => {
  // That a move began is told by its task.
  const silent = ['domain.migrating', 'task.progressed', 'task.removed', 'domain.job', 'domain.block-job'];
  const missing = Object.keys(catalog.events).filter((topic) => !(topic in eventWords));
  expect(missing.sort()).toEqual(silent.sort());
});

test('a machine on its way shows where it is and whither it goes', () => {
  const place = COLUMNS.domain.find((c) => c.key === 'host');
  expect(place?.text(machine('running'), undefined as never)).toBe('a');
  expect(place?.text(machine('running', { facts: { moving_to: 'b' } }), undefined as never)).toBe('a → b');
});

test('texts fill in, count and name commands', () => {
  expect(fill('{n} task|{n} tasks', { n: 1 })).toBe('1 task');
  expect(fill('{n} task|{n} tasks', { n: 1200 })).toBe('1,200 tasks');
  expect(fill('{missing}')).toBe('{missing}');
  expect(t('confirm.title', { verb: 'Reset', name: '<b>' })).toBe('Reset <b>?');
  expect(verbWord(get('domain.force-off'))).toBe('Force off');
});
