// What a machine or host takes, in the words of the page. What is not known has no row and is no zero.
import { formatBytes } from './units';

/** Figures by their names in the contract; what is not known is absent. */
export type Usage = Readonly<Record<string, number | undefined>>;

/** 1005 -> "100.5 %": thousandths of one CPU; 100 % is one that is busy all the time. */
export function formatCpu(thousandths: number): string {
  const percent = thousandths / 10;
  return `${percent >= 10 ? Math.round(percent) : percent.toFixed(1)} %`;
}

/** 2048 -> "2 KiB/s" */
export const formatRate = (bytes: number): string => `${formatBytes(bytes)}/s`;

type Label = 'usage.cpu' | 'usage.memory' | 'usage.disk' | 'usage.net';

export interface UsageRow {
  label: Label;
  text: string;
}

export function usageRows(usage: Usage | undefined): UsageRow[] {
  const rows: UsageRow[] = [];
  if (!usage) return rows;
  const both = (label: Label, one: number | undefined, other: number | undefined, words: [string, string]) => {
    if (one !== undefined && other !== undefined) rows.push({ label, text: `${words[0]} ${formatRate(one)} ${words[1]} ${formatRate(other)}` });
  };
  if (usage.cpu !== undefined) rows.push({ label: 'usage.cpu', text: formatCpu(usage.cpu) + (usage.cpus ? ` / ${usage.cpus * 100} %` : '') });
  const { memory, memory_used: used } = usage;
  if (memory !== undefined) rows.push({ label: 'usage.memory', text: used === undefined ? formatBytes(memory) : `${formatBytes(used)} / ${formatBytes(memory)}` });
  both('usage.disk', usage.disk_read, usage.disk_written, ['R', 'W']);
  both('usage.net', usage.net_received, usage.net_sent, ['↓', '↑']);
  return rows;
}
