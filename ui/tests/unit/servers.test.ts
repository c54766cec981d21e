// Which exchange of the cell is tried next.
import { afterEach, expect, test, vi } from 'vitest';
import { Servers, discover, hostOf } from '../../src/xmpp/servers';

afterEach(() => vi.unstubAllGlobals());

test('each server is tried once before a pause, beginning with the page\'s own', () => {
  const servers = new Servers('ws://a/x');
  expect(servers.several).toBe(false);
  expect(servers.failed()).toBe(true);
  servers.learn(['ws://a/x', 'ws://b/x', 'ws://c/x']);
  expect([servers.several, servers.current]).toEqual([true, 'ws://a/x']);
  expect([servers.failed(), servers.current]).toEqual([false, 'ws://b/x']);
  servers.settled();
  expect([servers.failed(), servers.current]).toEqual([false, 'ws://c/x']);
  expect([servers.failed(), servers.current]).toEqual([false, 'ws://a/x']);
  expect([servers.failed(), servers.current]).toEqual([true, 'ws://b/x']);
  expect(hostOf('wss://b.example.org:8443/xmpp-websocket')).toBe('b.example.org:8443');
});

test('host-meta names the sockets, and whatever else it says is ignored', async () => {
  const rel = 'urn:xmpp:alt-connections:websocket';
  const links = [{ rel, href: 'ws://a/x' }, { rel, href: 'javascript:1' }, { rel: 'other', href: 'ws://c/x' }, { rel, href: 'wss://b/x' }];
  vi.stubGlobal('fetch', () => Promise.resolve({ json: () => Promise.resolve({ links }) }));
  expect(await discover()).toEqual(['ws://a/x', 'wss://b/x']);
  vi.stubGlobal('fetch', () => Promise.reject(new Error('offline')));
  expect(await discover()).toEqual([]);
});
