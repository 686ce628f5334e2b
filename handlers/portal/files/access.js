// My open grants.
import { explain } from './api.js';
import { el, icon, replace } from './dom.js';
import { t } from './i18n.js';
import { liveGrants, state } from './state.js';
import { requestCard } from './grant.js';

let list, note;

export function frame() {
  list = el('div', { class: 'cards' });
  note = el('p', { class: 'muted', role: 'status' });
  return [note, list];
}

export function draw() {
  const problem = state.problems.mine;
  note.replaceChildren(problem ? el('span', { class: 'stale' }, icon('warn'), explain(problem.reason, problem.message)) : state.mine ? '' : t('loading'));
  const live = (state.mine ?? []).filter((r) => liveGrants(r).length > 0);
  const empty = state.mine && el('div', { class: 'empty' }, icon('shut'), el('p', { text: t('access.none') }), el('p', {}, el('a', { href: '#machines', text: t('access.goAsk') })));
  replace(list, live.length ? live.map((r) => requestCard(r)) : empty);
}
