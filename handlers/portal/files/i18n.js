// The page's words, by the browser's languages.
import { en } from './en.js';
import { ja } from './ja.js';

const dictionaries = { en, ja };

// choose gives the first of the browser's languages that there are words for.
export function choose(languages) {
  for (const tag of languages ?? []) {
    const base = String(tag).toLowerCase().split('-')[0];
    if (base in dictionaries) return base;
  }
  return 'en';
}

export const language = choose(navigator.languages);
const words = dictionaries[language];
const plural = new Intl.PluralRules(language);

// t gives the words for a key, with {name} filled in.
export function t(key, values = {}) {
  return (words[key] ?? en[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// tn is t for a number: the keys end in .one and .other.
export const tn = (key, n, values = {}) => t(`${key}.${plural.select(n) === 'one' ? 'one' : 'other'}`, { n: n.toLocaleString(locales), ...values });

// known gives the words for a key, or undefined: for words that come from
// elsewhere, such as a reason.
export const known = (key) => words[key];

export const locales = navigator.languages?.length ? [...navigator.languages] : [language];
