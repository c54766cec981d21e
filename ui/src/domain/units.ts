// Sizes and times as people read and write them.

const UNITS: [string, number][] = [
  ['TiB', 2 ** 40],
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
];

/** 1610612736 -> "1.5 GiB" */
export function formatBytes(bytes: number): string {
  for (const [unit, size] of UNITS) {
    if (bytes >= size) {
      const n = bytes / size;
      return `${Number.isInteger(n) || n >= 100 ? Math.round(n) : n.toFixed(1).replace(/\.0$/, '')} ${unit}`;
    }
  }
  return `${bytes} B`;
}

const FACTOR: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** "512MiB" -> 536870912; undefined when it is not a size. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+)\s*(|b|[kmgt](?:i?b)?)\s*$/i.exec(text);
  if (!match) return undefined;
  const unit = (match[2] ?? '').toLowerCase();
  const bytes = Number(match[1]) * (FACTOR[unit === 'b' ? 'b' : unit.charAt(0)] ?? 1);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** 2026-01-31T23:59:59.000Z -> local date and time, 24 h. */
export function formatTime(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const two = (n: number) => String(n).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(date)}`;
}

/** The local time of day, 24 h. */
export function clock(date: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
