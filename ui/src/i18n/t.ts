// Texts by typed key. One language for now; a second is a second table of the same keys.
import type { CommandEntry } from '../domain/catalog';
import { en, factWords, stateWords } from './en';

export type Key = keyof typeof en;

const plural = new Intl.PluralRules('en');
const numbers = new Intl.NumberFormat('en');

/** Fills a template: `{key}`, and `one|many` by `n`. */
export function fill(template: string, values: Record<string, string | number> = {}): string {
  const forms = template.split('|');
  const text = forms.length === 2 && typeof values.n === 'number' && plural.select(values.n) !== 'one' ? forms[1] : forms[0];
  return (text ?? '').replace(/\{(\w+)\}/g, (whole, key: string) => {
    const value = values[key];
    return value === undefined ? whole : typeof value === 'number' ? numbers.format(value) : value;
  });
}

/** The text with that key. */
export const t = (key: Key, values?: Record<string, string | number>): string => fill(en[key], values);

/** The text with that key if there is one. */
export const maybe = (key: string): string | undefined => (en as Record<string, string>)[key];

const humanized = (word: string): string => {
  const words = word.replace(/[_-]+/g, ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
};

/** The word for a state. */
export const stateWord = (state: string): string => stateWords[state] ?? state;
/** The word for a fact; one we do not know is made readable. */
export const factWord = (key: string): string => factWords[key] ?? humanized(key);
/** What a command is called on a button. */
export const verbWord = (c: CommandEntry): string => (c.name === 'volume.info' ? 'Show a volume' : (maybe(`verb.${c.verb}`) ?? humanized(c.verb)));
