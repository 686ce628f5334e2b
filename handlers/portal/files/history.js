// What was asked for, and what became of it.
import { all, explain, follow, get, names } from './api.js';
import { button, el, field, icon, replace } from './dom.js';
import { known, t } from './i18n.js';
import { grants, machineName, mayReadAll, mayRequest, state } from './state.js';
import { date, exact } from './time.js';
import { outcomeBadge, reasonText, statusBadge } from './grant.js';

let list, note, more, next, machine, status, whose;
let turn = 0;

const statuses = ['Scheduled', 'Initiating', 'Initiated', 'Revoked', 'Failed'];

export function frame() {
  list = el('ol', { class: 'cards history' });
  note = el('p', { class: 'muted', role: 'status', text: t('loading') });
  more = el('div', { class: 'actions' });
  const options = { on: { change: load } };
  whose = el('select', options, el('option', { value: 'mine', text: t('history.mine') }), el('option', { value: 'all', text: t('history.everybody') }));
  if (!mayRequest()) whose.value = 'all';
  machine = el('select', options);
  status = el('select', options, el('option', { value: '', text: t('machines.any') }), statuses.map((s) => el('option', { value: s, text: t(`status.${s}`) })));
  load();
  return [el('div', { class: 'filters' }, mayReadAll() && field(t('history.whose'), whose).node, field(t('history.machine'), machine).node,
    field(t('machines.status'), status).node), note, list, more];
}

export function draw() {
  const now = machine.value;
  machine.replaceChildren(el('option', { value: '', text: t('history.any') }), ...(state.machines ?? []).map((m) => el('option', { value: m.id, text: m.name })));
  machine.value = now;
}

function address() {
  const query = new URLSearchParams({ pageSize: '25' });
  if (mayReadAll() && whose.value === 'mine') query.set('requestor', state.me.name);
  if (machine.value) query.set('virtualMachine', machine.value);
  if (status.value) query.set('status', status.value);
  return `/api/access-requests?${query}`;
}

async function load() {
  list.replaceChildren();
  more.replaceChildren();
  await read(address());
}

async function read(path) {
  const mine = ++turn;
  try {
    const data = await get(path);
    if (mine !== turn) return; // another filter was chosen meanwhile
    next = follow(data.nextLink);
    list.append(...data.items.map(entry));
    note.textContent = list.children.length ? '' : t('history.none');
    replace(more, next && button(t('history.more'), () => read(next), { key: 'more' }));
  } catch (problem) {
    if (mine === turn) note.replaceChildren(icon('warn'), explain(problem.reason, problem.message));
  }
}

function entry(request) {
  const list = grants(request);
  const events = el('div', { class: 'events' });
  const states = [...new Set(list.map((g) => g.status).filter(Boolean))];
  const node = el('details', { class: 'card' },
    el('summary', {}, el('span', { class: 'entry-what' },
      el('strong', { text: [...new Set(list.map((g) => `${machineName(g.vm)}:${g.number}`))].join(', ') }),
      el('span', { class: 'muted', text: [date(request.startTimeUtc), request.requestor !== state.me.name && request.requestor].filter(Boolean).join(' · ') })),
    el('span', { class: 'badges' }, outcomeBadge(request) ?? states.map(statusBadge))),
    request.justification && el('p', { text: request.justification }),
    request.ticket && el('p', { class: 'muted', text: t('grant.ticket', { ticket: request.ticket }) }),
    request.refusal && el('ul', { class: 'notes' }, (request.refusal.violations ?? [request.refusal]).map((v) => el('li', {}, explain(v.reason, v.message ?? '')))),
    request.outcome === 'Accepted' && el('ul', { class: 'notes' }, list.map((g) => el('li', { text: line(g) }))),
    events);
  node.addEventListener('toggle', () => { if (node.open && !events.children.length) showEvents(request, events); });
  return el('li', {}, node);
}

function line(g) {
  const parts = [`${machineName(g.vm)}:${g.number}`, t('grant.from', { source: g.allowedSourceAddressPrefix }), t(`status.${g.status}`)];
  if (g.openedAtUtc) parts.push(t('history.opened', { when: exact(g.openedAtUtc) }));
  if (g.endedAtUtc) parts.push(t('history.ended', { when: exact(g.endedAtUtc) }));
  else if (g.endTimeUtc) parts.push(t('grant.until', { when: exact(g.endTimeUtc) }));
  if (g.statusReason) parts.push(reasonText(g.statusReason));
  if (g.blockedBy) parts.push(t('grant.blocked', { why: g.blockedBy }));
  return parts.join(' · ');
}

async function showEvents(request, place) {
  place.append(el('p', { class: 'muted', text: t('loading') }));
  try {
    const items = await all(`/api/access-requests/${request.id}/events`);
    place.replaceChildren(el('h3', { text: t('history.events') }), el('ol', { class: 'timeline' }, items.map((e) => el('li', {},
      el('time', { datetime: e.at, text: exact(e.at) }), el('span', {}, el('strong', { text: known(`event.${e.kind}`) ?? e.kind }), ' ',
        e.actor && el('span', { class: 'muted', text: e.actor }), detail(e.kind, e.detail))))));
  } catch (problem) {
    place.replaceChildren(el('p', {}, icon('warn'), explain(problem.reason, problem.message)));
  }
}

// detail is what an event says that the request does not: where, and why. The
// rest of it is for the audit.
function detail(kind, d) {
  const parts = [];
  if (d?.nsg) parts.push(names(d.nsg).last);
  if (d?.rule) parts.push(d.rule);
  if (d?.statusReason && known(`ended.${d.statusReason}`)) parts.push(reasonText(d.statusReason));
  for (const name of ['reason', 'message', 'blockedBy']) {
    // The refusal itself stands above already.
    if (d?.[name] && kind !== 'Refused') parts.push(known(`reason.${d[name]}`) ?? d[name]);
  }
  return parts.length > 0 && el('div', { class: 'muted', text: parts.join(' · ') });
}
