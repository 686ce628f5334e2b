// The access API, as the page calls it.
import { known, language, t } from './i18n.js';
import { el } from './dom.js';
import { learnClock } from './time.js';

// Problem is a refusal of the API (RFC 9457), or that there was no answer.
export class Problem extends Error {
  constructor(status, doc = {}) {
    super(doc.detail || doc.title || t('error.unreachable'));
    Object.assign(this, { status, reason: doc.reason ?? (status ? '' : 'unreachable'), violations: doc.violations ?? [] });
  }
}

// explain writes what is wrong in the reader's language, with the API's own
// words, which name addresses and times, where those are in another.
export function explain(reason, message) {
  const ours = known(`reason.${reason}`);
  if (!ours) return el('span', { text: message, lang: language === 'en' ? null : 'en' });
  if (language === 'en' || !message) return el('span', { text: message || ours });
  return el('span', {}, ours, ' ', el('span', { class: 'original', lang: 'en', text: message }));
}

async function once(method, path, { body, headers } = {}) {
  const send = { Accept: 'application/json', ...headers };
  if (method !== 'GET') {
    // What a foreign page cannot send: with it, the API knows the call is ours.
    send['X-Portcullis-Request'] = '1';
    send['Content-Type'] = 'application/json';
  }
  let answer;
  try {
    answer = await fetch(path, { method, headers: send, body: body && JSON.stringify(body), redirect: 'error', cache: 'no-store' });
  } catch {
    throw new Problem(0);
  }
  learnClock(answer.headers.get('Date'));
  const data = await answer.json().catch(() => undefined);
  if (!answer.ok) throw new Problem(answer.status, data);
  return { data, etag: answer.headers.get('ETag') };
}

// call does one call. A session whose token has run out gets a new one first.
export async function call(method, path, options) {
  try {
    return await once(method, path, options);
  } catch (problem) {
    if (problem.status !== 401) throw problem;
    const refreshed = await fetch('/.auth/refresh', { redirect: 'error' }).catch(() => ({ ok: false }));
    if (!refreshed.ok) throw problem;
    return once(method, path, options);
  }
}

export const get = async (path) => (await call('GET', path)).data;

const MOST_PAGES = 10;

// all reads a list to its end, or to the 2,000th item.
export async function all(path) {
  const items = [];
  let next = path + (path.includes('?') ? '&' : '?') + 'pageSize=200';
  for (let page = 0; next && page < MOST_PAGES; page++) {
    const data = await get(next);
    items.push(...data.items);
    next = follow(data.nextLink);
  }
  return items;
}

// follow gives a next link's path: the page stays at its own origin.
export function follow(link) {
  if (!link) return undefined;
  const u = new URL(link, location.origin);
  return u.pathname + u.search;
}

// names reads the names in a resource id, whatever its case.
export function names(id) {
  const p = String(id).split('/');
  const after = (word) => p[p.findIndex((s) => s.toLowerCase() === word) + 1];
  const has = (word) => p.some((s) => s.toLowerCase() === word);
  return {
    subscription: has('subscriptions') ? after('subscriptions') : undefined,
    resourceGroup: has('resourcegroups') ? after('resourcegroups') : undefined,
    machine: has('virtualmachines') ? after('virtualmachines') : undefined,
    last: p.at(-1),
  };
}

// policyPath is where the policy of a scope is.
export function policyPath(scope) {
  const { subscription, resourceGroup, machine } = names(scope);
  const steps = [['subscriptions', subscription], ['resourceGroups', resourceGroup], ['virtualMachines', machine]];
  return '/api/policies' + steps.filter(([, name]) => name).map(([kind, name]) => `/${kind}/${encodeURIComponent(name)}`).join('');
}
