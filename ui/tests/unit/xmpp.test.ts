import { expect, test } from 'vitest';
import { Fault } from '../../src/domain/fault';
import { chatLine } from '../../src/xmpp/chat';
import { faultOf, Requests } from '../../src/xmpp/iq';
import { pushed } from '../../src/xmpp/pubsub';
import { ForgetfulBackend, REPEAT_WITHIN_MS } from '../../src/xmpp/resend';

const parse = (xml: string) => new DOMParser().parseFromString(xml, 'text/xml').documentElement;

test('a stanza error becomes the fault it carries', () => {
  const fault = faultOf(
    parse(
      `<iq xmlns="jabber:client" type="error" id="1"><error type="wait"><unexpected-request xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/><text xmlns="urn:ietf:params:xml:ns:xmpp-stanzas">web1 is running already</text><fault xmlns="urn:archipel:fault:0" kind="wrong-state"><cause>libvirt said so</cause></fault></error></iq>`,
    ),
  );
  expect(fault).toMatchObject({ kind: 'wrong-state', message: 'web1 is running already', beneath: 'libvirt said so' });
});

test('an error of another server is understood by its condition', () => {
  const of = (condition: string) => faultOf(parse(`<iq xmlns="jabber:client" type="error"><error><${condition} xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error></iq>`)).kind;
  expect(of('forbidden')).toBe('forbidden');
  expect(of('service-unavailable')).toBe('unavailable');
  expect(of('gone')).toBe('internal');
  expect(faultOf(parse('<iq type="error"/>')).message).toBe('the server refused without a reason');
});

test('an answer finds its question once, and abandoned questions fail', async () => {
  const requests = new Requests();
  const one = requests.ask(1000);
  const two = requests.ask(1000);
  expect(requests.settle(parse(`<iq type="result" id="${one.id}"/>`))).toBe(true);
  expect(requests.settle(parse(`<iq type="result" id="${one.id}"/>`))).toBe(false);
  expect(requests.settle(parse(`<iq type="get" id="${two.id}"/>`))).toBe(false);
  await one.answer;
  requests.abandon(new Fault('unavailable', 'lost'));
  await expect(two.answer).rejects.toThrow('lost');
});

test('a question without an answer in time says what that means', async () => {
  await expect(new Requests().ask(1).answer).rejects.toMatchObject({ kind: 'timeout' });
});

test('more questions than the limit are refused', async () => {
  const requests = new Requests();
  for (let i = 0; i < 256; i++) requests.ask(60_000).answer.catch(() => {});
  await expect(requests.ask(60_000).answer).rejects.toMatchObject({ kind: 'busy' });
  requests.abandon(new Fault('unavailable', 'end'));
});

test('pushed items are read, other messages are not', () => {
  const message = (inner: string, node = 'urn:archipel:feed:0') =>
    parse(`<message xmlns="jabber:client" type="headline"><event xmlns="http://jabber.org/protocol/pubsub#event"><items node="${node}">${inner}</items></event></message>`);
  expect(pushed(message('<item id="7"><json xmlns="urn:xmpp:json:0">[{"a":"&lt;"}]</json></item>'))).toEqual([{ id: '7', document: [{ a: '<' }] }]);
  expect(pushed(message('<item id="7"><json xmlns="urn:xmpp:json:0">{broken</json></item>'))).toEqual([{ id: '7', document: undefined }]);
  expect(pushed(message('<item id="7"/>', 'other'))).toBeUndefined();
  expect(pushed(parse('<message xmlns="jabber:client"><body>hi</body></message>'))).toBeUndefined();
});

test('chat lines, and lines that could not be delivered', () => {
  expect(chatLine(parse('<message xmlns="jabber:client" type="chat" from="a@c/x"><body>hi</body></message>'))).toEqual({ from: 'a@c/x', body: 'hi', error: false });
  expect(chatLine(parse('<message xmlns="jabber:client" type="headline"><body>hi</body></message>'))).toBeUndefined();
  expect(chatLine(parse('<message xmlns="jabber:client" type="chat"><composing/></message>'))).toBeUndefined();
  expect(chatLine(parse('<message xmlns="jabber:client" type="error" from="a@c"><body>hi</body><error><text>nobody</text></error></message>'))).toEqual({ from: 'a@c', body: 'nobody', error: true });
});

test('an old command is not repeated after a cut, its place in the queue stays', () => {
  let now = 1_000_000;
  const backend = new ForgetfulBackend(() => now);
  const command = '<iq xmlns="jabber:client" id="q9" type="set"><command xmlns="http://jabber.org/protocol/commands" node="domain.force-off"/></iq>';
  const chat = '<message xmlns="jabber:client" id="m1"><body>hello</body></message>';
  const state = { unacked: [{ name: 'iq', stanza: command, queuedAt: now }, { name: 'message', stanza: chat, queuedAt: now }] };
  backend.save('k', state as never);
  expect(backend.load('k').unacked.map((u) => u.stanza)).toEqual([command, chat]);
  now += REPEAT_WITHIN_MS;
  const later = backend.load('k').unacked;
  expect(later).toHaveLength(2);
  expect(later[0]?.stanza).toContain('urn:xmpp:ping');
  expect(later[0]?.stanza).not.toContain('force-off');
  expect(later[1]?.stanza).toBe(chat);
  expect(backend.load('nothing')).toBeNull();
});
