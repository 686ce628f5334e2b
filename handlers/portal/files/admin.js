// For administrators: everybody's live grants, and the lockdown.
import { call, explain } from './api.js';
import { badge, button, dialog, el, field, icon, replace, toast } from './dom.js';
import { t, tn } from './i18n.js';
import { liveGrants, mayAdminister, refresh, state } from './state.js';
import { date } from './time.js';
import { requestCard } from './grant.js';

let doors, list, count;

export function frame() {
  doors = el('section', { class: 'card lock', 'aria-labelledby': 'lock-title' });
  list = el('div', { class: 'cards' });
  count = el('p', { class: 'muted count', role: 'status' });
  return [doors, el('h2', { text: t('admin.live') }), count, list];
}

export function draw() {
  drawLock();
  const problem = state.problems.everybody;
  const live = (state.everybody ?? []).filter((r) => liveGrants(r).length > 0);
  const ports = live.reduce((n, r) => n + liveGrants(r).length, 0);
  count.replaceChildren(problem ? el('span', { class: 'stale' }, icon('warn'), explain(problem.reason, problem.message))
    : state.everybody ? tn('admin.count', ports) : t('loading'));
  replace(list, live.map((r) => (mayAdminister() ? requestCard(r, { by: true }) : reader(r))));
}

// reader is the card of one who may see it and not revoke.
function reader(request) {
  const card = requestCard(request, { by: true });
  card.querySelector('.actions').remove();
  return card;
}

function drawLock() {
  const now = state.lockdown;
  const problem = state.problems.lockdown;
  const may = mayAdminister();
  replace(doors,
    el('div', { class: 'card-head' }, el('div', {}, el('h2', { id: 'lock-title', text: t('lockdown.title') }),
      el('p', { class: 'muted', text: t(now?.active ? 'lockdown.onLead' : 'lockdown.lead') })),
    now && el('div', { class: 'badges' }, now.active ? badge('bad', 'stop', t('lockdown.isOn')) : badge('quiet', 'done', t('lockdown.isOff')))),
    now?.active && el('p', { text: t('lockdown.reasonWas', { reason: now.reason, who: now.by ?? '', when: now.at ? date(now.at) : '' }) }),
    problem && el('p', {}, icon('warn'), explain(problem.reason, problem.message)),
    may && now && el('div', { class: 'actions' }, now.active ? button(t('lockdown.lift'), lift, { kind: 'primary', key: 'lift' })
      : button(t('lockdown.start'), lock, { kind: 'danger', key: 'lock' })));
}

function lock() {
  const reason = field(t('lockdown.reason'), el('input', { type: 'text', maxlength: '1024' }), { required: true, hint: t('lockdown.reasonHint'), name: 'reason' });
  dialog({
    title: t('lockdown.start'), kind: 'danger', submitText: t('lockdown.confirm'),
    body: el('div', { class: 'stack' }, el('p', { text: t('lockdown.warning') }), reason.node),
    async submit() {
      const text = reason.control.value.trim();
      reason.fail(text ? null : t('lockdown.reasonMissing'));
      if (!text) throw new Error(t('form.incomplete'));
      await call('PUT', '/api/lockdown', { body: { reason: text } });
      toast(t('lockdown.done'));
      await refresh('lockdown', 'everybody', 'mine');
    },
    fail: (problem) => [problem.reason ? explain(problem.reason, problem.message) : problem.message],
  });
}

function lift() {
  dialog({
    title: t('lockdown.lift'), submitText: t('lockdown.lift'),
    body: el('p', { text: t('lockdown.liftLead') }),
    async submit() {
      await call('DELETE', '/api/lockdown');
      toast(t('lockdown.lifted'));
      await refresh('lockdown', 'everybody', 'mine');
    },
    fail: (problem) => [explain(problem.reason, problem.message)],
  });
}
