// The serial line of a machine in a terminal. A chunk of its own: xterm.js comes only when somebody looks.
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { Shown } from './shown';

export function show(target: HTMLElement, socket: WebSocket): Shown {
  const terminal = new Terminal({ convertEol: false, cursorBlink: true, fontSize: 13, screenReaderMode: true, scrollback: 2000 });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(target);
  fit.fit();
  const watch = new ResizeObserver(() => fit.fit());
  watch.observe(target);
  const words = new TextEncoder();
  const send = (bytes: Uint8Array<ArrayBuffer>) => socket.readyState === WebSocket.OPEN && socket.send(bytes);
  terminal.onData((text) => send(words.encode(text)));
  terminal.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  socket.addEventListener('message', (e: MessageEvent<ArrayBuffer>) => terminal.write(new Uint8Array(e.data)));
  return {
    focus: () => terminal.focus(),
    end: () => {
      watch.disconnect();
      socket.close();
      terminal.dispose();
    },
  };
}
