// Durations, deadlines and dates.
import { locales, t } from './i18n.js';

const ISO = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/;
const LOOSE = /^(?:(\d+)\s*d)?\s*(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*(?:(\d+)\s*s)?$/i;

// seconds reads an ISO 8601 duration, or one like "1h 30m"; NaN if it is neither.
export function seconds(text) {
  const trimmed = String(text ?? '').trim();
  const found = trimmed && (trimmed.match(ISO) ?? trimmed.match(LOOSE));
  if (!found || !found.slice(1).some(Boolean)) return NaN;
  const [days, hours, minutes, secs] = found.slice(1).map((n) => Number(n ?? 0));
  return ((days * 24 + hours) * 60 + minutes) * 60 + secs;
}

function parts(total) {
  return [['d', Math.floor(total / 86400)], ['h', Math.floor(total / 3600) % 24], ['m', Math.floor(total / 60) % 60], ['s', Math.floor(total) % 60]];
}

// iso writes a duration as the API takes it.
export function iso(total) {
  const [[, d], ...rest] = parts(total);
  const time = rest.filter(([, n]) => n).map(([unit, n]) => n + unit.toUpperCase()).join('');
  return `P${d ? `${d}D` : ''}${time ? `T${time}` : ''}`;
}

// words writes a duration for a person.
export function words(total) {
  const shown = parts(total).filter(([, n]) => n);
  return shown.length ? shown.map(([unit, n]) => t(`unit.${unit}`, { n })).join(t('unit.join')) : t('unit.s', { n: 0 });
}

// clock writes what is left as h:mm:ss.
export function clock(total) {
  const left = Math.max(0, Math.ceil(total));
  const two = (n) => String(n).padStart(2, '0');
  return `${Math.floor(left / 3600)}:${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
}

const instant = new Intl.DateTimeFormat(locales, { dateStyle: 'medium', timeStyle: 'short' });
const precise = new Intl.DateTimeFormat(locales, { dateStyle: 'medium', timeStyle: 'medium' });
const ofToday = new Intl.DateTimeFormat(locales, { timeStyle: 'short' });

export const date = (text) => instant.format(new Date(text));
export const exact = (text) => precise.format(new Date(text));

// at writes a time, with its day unless that is today.
export function at(text) {
  const when = new Date(text);
  return when.toDateString() === new Date().toDateString() ? ofToday.format(when) : instant.format(when);
}

// The choices of a time up to a maximum, in seconds, the maximum among them.
export function choices(most) {
  const list = [900, 1800, 3600, 7200, 10800, 14400, 28800, 43200, 86400].filter((n) => n < most);
  return [...list, most];
}

// The server's clock: what a deadline is counted against. A browser whose own is
// wrong by minutes still counts down to the right moment.
let ahead = 0;
export function learnClock(header) {
  const server = Date.parse(header ?? '');
  // The header has whole seconds: what is less than two is its rounding.
  if (!Number.isNaN(server)) ahead = Math.abs(server - Date.now()) < 2000 ? 0 : server - Date.now();
}
export const now = () => Date.now() + ahead;
