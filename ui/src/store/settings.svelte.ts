// What a person likes, kept in this browser: appearance, density, widths, the remembered address.
export type Theme = 'auto' | 'light' | 'dark';
export type Density = 'compact' | 'normal' | 'touch';

export const ROW_HEIGHT: Record<Density, number> = { compact: 24, normal: 28, touch: 40 };

function read(key: string): string | null {
  try {
    return localStorage.getItem(`archipel.${key}`);
  } catch {
    return null; // Storage may be forbidden; then nothing is remembered.
  }
}

function write(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`archipel.${key}`);
    else localStorage.setItem(`archipel.${key}`, value);
  } catch {
    /* See above. */
  }
}

const oneOf = <T extends string>(value: string | null, list: readonly T[], otherwise: T): T => list.find((x) => x === value) ?? otherwise;

class Settings {
  theme = $state<Theme>(oneOf(read('theme'), ['auto', 'light', 'dark'], 'auto'));
  density = $state<Density>(oneOf(read('density'), ['compact', 'normal', 'touch'], 'normal'));
  tree = $state(Number(read('tree')) || 268);
  detail = $state(Number(read('detail')) || 460);
  address = $state(read('address') ?? '');

  get rowHeight(): number {
    return ROW_HEIGHT[this.density];
  }

  /** Puts appearance and density on the document. */
  apply(): void {
    document.documentElement.style.colorScheme = this.theme === 'auto' ? 'light dark' : this.theme;
    document.documentElement.dataset.theme = this.theme;
    document.documentElement.dataset.density = this.density;
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    write('theme', theme);
    this.apply();
  }

  setDensity(density: Density): void {
    this.density = density;
    write('density', density);
    this.apply();
  }

  setWidth(which: 'tree' | 'detail', px: number): void {
    this[which] = px;
    write(which, String(Math.round(px)));
  }

  /** Remembers the address, or forgets it. */
  remember(address: string | null): void {
    this.address = address ?? '';
    write('address', address);
  }
}

export const settings = new Settings();
