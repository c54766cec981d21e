// A volume: a row of its pool, without an address of its own.
export interface Volume {
  name: string;
  type: string;
  format: string | undefined;
  /** Bytes as the guest sees it, and bytes taken on the pool. */
  capacity: number;
  allocation: number;
  path: string;
}

/** Reads the answer of `volume.list`, by name. */
export function parseVolumes(json: unknown): Volume[] {
  if (!Array.isArray(json)) return [];
  const text = (v: unknown) => (typeof v === 'string' ? v : '');
  const size = (v: unknown) => (typeof v === 'number' ? v : 0);
  return (json as Record<string, unknown>[])
    .filter((v) => typeof v === 'object' && v !== null && typeof v.name === 'string')
    .map((v) => ({
      name: text(v.name),
      type: text(v.type),
      format: typeof v.format === 'string' ? v.format : undefined,
      capacity: size(v.capacity),
      allocation: size(v.allocation),
      path: text(v.path),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
