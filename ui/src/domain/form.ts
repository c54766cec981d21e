// From the texts a person typed into a command's form to its arguments, or what is wrong with each field.
import type { Argument } from './catalog';
import { formatBytes, parseBytes } from './units';

/** What the fields hold: text, and booleans for yes/no. */
export type FormValues = Record<string, string | boolean>;
export type FormErrors = Record<string, 'required' | 'not-a-number' | 'not-a-size' | 'not-a-choice' | { least: number } | { most: number }>;

/** The fields as they stand when the form opens. */
export function initialValues(args: Argument[]): FormValues {
  return Object.fromEntries(
    args.map((a) => {
      if (a.kind === 'boolean') return [a.name, a.default === true];
      if (a.default === undefined || a.default === null) return [a.name, a.kind === 'choice' && a.required ? (a.choices?.[0] ?? '') : ''];
      return [a.name, a.kind === 'bytes' && typeof a.default === 'number' ? formatBytes(a.default) : String(a.default)];
    }),
  );
}

/** The arguments, or the mistakes. Optional fields left empty are not sent, so the server's default holds. */
export function readForm(args: Argument[], values: FormValues): { arguments: Record<string, unknown> } | { errors: FormErrors } {
  const out: Record<string, unknown> = {};
  const errors: FormErrors = {};
  for (const a of args) {
    const value = values[a.name];
    if (a.kind === 'boolean') {
      out[a.name] = value === true;
      continue;
    }
    const text = typeof value === 'string' ? value : '';
    if (text.trim() === '') {
      if (a.required) errors[a.name] = 'required';
      else if (a.kind === 'text' && typeof a.default === 'string') out[a.name] = '';
      continue;
    }
    if (a.kind === 'integer' || a.kind === 'bytes') {
      const n = a.kind === 'bytes' ? readSize(text) : /^-?\d+$/.test(text.trim()) ? Number(text) : undefined;
      if (n === undefined || !Number.isSafeInteger(n)) errors[a.name] = a.kind === 'bytes' ? 'not-a-size' : 'not-a-number';
      else if (a.minimum !== undefined && n < a.minimum) errors[a.name] = { least: a.minimum };
      else if (a.maximum !== undefined && n > a.maximum) errors[a.name] = { most: a.maximum };
      else out[a.name] = n;
    } else if (a.kind === 'choice') {
      if (a.choices?.includes(text)) out[a.name] = text;
      else errors[a.name] = 'not-a-choice';
    } else {
      out[a.name] = text;
    }
  }
  return Object.keys(errors).length > 0 ? { errors } : { arguments: out };
}

/** Also accepts what `formatBytes` shows, such as "1.5 GiB". */
function readSize(text: string): number | undefined {
  const whole = parseBytes(text);
  if (whole !== undefined) return whole;
  const match = /^\s*(\d+\.\d+)\s*([kmgt]i?b?)\s*$/i.exec(text);
  const unit = match && parseBytes(`1${match[2]}`);
  return match && unit ? Math.round(Number(match[1]) * unit) : undefined;
}
