// Commands as our own clients send them: XEP-0050 with JSON in place of the form.
import { $iq } from 'strophe.js';
import { NS, find, jsonIn } from './ns';
import type { Link } from './connection';

export interface CommandAnswer {
  note: string;
  json: unknown;
}

/** Runs a command on an address. The operation id makes a repeated stanza run once. */
export async function execute(link: Link, to: string, node: string, args: unknown, op: string, timeoutMs: number): Promise<CommandAnswer> {
  const answer = await link.request(
    (id) =>
      $iq({ type: 'set', to, id })
        .c('command', { xmlns: NS.commands, node, action: 'execute' })
        .c('op', { xmlns: NS.op, id: op })
        .up()
        .c('json', { xmlns: NS.json })
        .t(JSON.stringify(args))
        .tree(),
    timeoutMs,
  );
  const command = find(answer, NS.commands, 'command');
  const note = [...(command?.children ?? [])].find((c) => c.nodeName === 'note')?.textContent ?? '';
  return { note, json: jsonIn(answer) };
}
