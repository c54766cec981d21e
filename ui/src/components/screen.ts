// The screen of a machine on a canvas. A chunk of its own: noVNC comes only when somebody looks.
import RFB from '@novnc/novnc';
import type { Shown } from './shown';

export function show(target: HTMLElement, socket: WebSocket): Shown {
  const rfb = new RFB(target, socket, { shared: true });
  rfb.scaleViewport = true;
  rfb.background = 'transparent';
  return {
    focus: () => rfb.focus(),
    ctrlAltDel: () => rfb.sendCtrlAltDel(),
    end: () => rfb.disconnect(),
  };
}
