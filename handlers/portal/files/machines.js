// The machines, with their state and what may be done with each.
import { explain, names } from './api.js';
import { badge, button, el, icon, newId, replace } from './dom.js';
import { t, tn } from './i18n.js';
import { mayAdminister, mayRequest, state } from './state.js';
import { at, date } from './time.js';
import { openRequest } from './request.js';
import { openDisable, openEnable } from './enable.js';

let list, count, bar;
const filter = { text: '', status: '' };
const chosen = new Set();

// frame makes what stays while the list is drawn anew.
export function frame() {
  list = el('ul', { class: 'cards' });
  count = el('p', { class: 'muted count', role: 'status' });
  bar = el('div', { class: 'chosen' });
  const search = el('input', { type: 'search', id: newId('search'), value: filter.text, autocomplete: 'off', on: { input: (e) => { filter.text = e.target.value; draw(); } } });
  const status = el('select', { id: newId('status'), on: { change: (e) => { filter.status = e.target.value; draw(); } } },
    ['', 'Configured', 'NotConfigured', 'Unsupported', 'Exposed'].map((s) => el('option', { value: s, text: t(s ? `machine.${s}` : 'machines.any') })));
  status.value = filter.status;
  return [
    el('div', { class: 'filters' }, el('div', { class: 'field' }, el('label', { for: search.id, text: t('machines.search') }), search),
      el('div', { class: 'field' }, el('label', { for: status.id, text: t('machines.status') }), status)),
    count, list, bar,
  ];
}

function matches(m) {
  const text = filter.text.trim().toLowerCase();
  const fits = !filter.status || m.status === filter.status || m.exposure?.status === filter.status;
  return fits && (!text || [m.name, m.resourceGroup, m.subscriptionId].some((s) => s?.toLowerCase().includes(text)));
}

export function draw() {
  const problem = state.problems.machines;
  if (!state.machines) {
    count.textContent = problem ? '' : t('loading');
    return replace(list, problem && el('li', { class: 'card' }, explain(problem.reason, problem.message)));
  }
  const shown = state.machines.filter(matches);
  const trouble = problem && el('span', { class: 'stale' }, ' ', icon('warn'), t('machines.stale'));
  count.replaceChildren(tn('machines.count', shown.length), trouble ?? '');
  replace(list, shown.length ? shown.map(card) : el('li', { class: 'empty', text: t(state.machines.length ? 'machines.noMatch' : 'machines.none') }));
  drawChosen();
}

const states = { Configured: ['good', 'shut'], NotConfigured: ['quiet', 'none'], Unsupported: ['quiet', 'unsupported'] };

function card(m) {
  const title = newId('machine');
  return el('li', {}, el('article', { class: 'card machine', 'aria-labelledby': title, data: { machine: m.name } },
    el('div', { class: 'card-head' }, picker(m), el('div', {}, el('h2', { id: title, text: m.name }),
      el('p', { class: 'muted', text: [m.resourceGroup, m.osType, m.subscriptionId].filter((s) => s && s !== '?').join(' · ') })),
    el('div', { class: 'badges' }, badge(...(states[m.status] ?? ['quiet', 'unknown']), t(`machine.${m.status}`)), exposureBadge(m.exposure))),
    el('div', { class: 'card-body' }, notes(m), actions(m))));
}

// picker lets several machines be asked for at once.
function picker(m) {
  if (!m.mayRequest || !mayRequest()) return null;
  return el('input', { type: 'checkbox', class: 'pick', checked: chosen.has(m.id), 'aria-label': t('machines.pick', { name: m.name }),
    data: { key: `pick-${m.id}` }, on: { change: (e) => { e.target.checked ? chosen.add(m.id) : chosen.delete(m.id); drawChosen(); } } });
}

const exposures = { Exposed: ['bad', 'warn'], Shut: ['good', 'done'], Unknown: ['careful', 'unknown'] };
const exposureBadge = (e) => e && badge(...(exposures[e.status] ?? exposures.Unknown), t(`exposure.${e.status}`));

function notes(m) {
  const e = m.exposure;
  const lines = [];
  if (m.reason) lines.push(m.reason);
  if (e?.status === 'Exposed') {
    lines.push(t(e.rule ? 'exposure.byRule' : 'exposure.noRule', { port: e.port ?? '', rule: e.rule ?? '', nsg: e.nsg ? names(e.nsg).last : '' }));
  } else if (e?.status === 'Unknown') {
    lines.push(t('exposure.unsure', { why: e.why ?? (e.rule && `${e.rule} (${names(e.nsg ?? '').last})`) ?? '' }));
  }
  if (m.baseline?.status === 'Blocked') lines.push(t('baseline.Blocked', { why: m.baseline.blockedBy ?? '' }));
  if (m.baseline?.status === 'Shutting') lines.push(t('baseline.Shutting'));
  if (m.baseline?.status === 'Lifting') lines.push(t('baseline.Lifting'));
  if (m.status === 'Configured') {
    const used = [tn('machine.requests', m.approvedRequests7d ?? 0)];
    if (m.lastAccess) used.push(t(m.lastUser ? 'machine.lastBy' : 'machine.last', { when: date(m.lastAccess), who: m.lastUser ?? '' }));
    lines.push(used.join(' · '));
  }
  if (m.asOf) lines.push(t('machine.asOf', { when: at(m.asOf) }));
  return el('ul', { class: 'notes' }, lines.map((text) => el('li', { text })));
}

function actions(m) {
  const list = [];
  const configured = m.status === 'Configured';
  if (m.mayRequest && mayRequest()) list.push(button(t('machine.ask'), () => openRequest([m]), { kind: 'primary', key: `ask-${m.id}`, label: t('machine.askFor', { name: m.name }) }));
  if (mayAdminister() && m.status !== 'Unsupported') {
    list.push(button(t(configured ? 'machine.change' : 'machine.enable'), () => openEnable(m),
      { kind: configured ? '' : 'primary', key: `enable-${m.id}`, label: t(configured ? 'machine.changeFor' : 'machine.enableFor', { name: m.name }) }));
  }
  if (mayAdminister() && configured) list.push(button(t('machine.disable'), () => openDisable(m), { key: `disable-${m.id}`, label: t('machine.disableFor', { name: m.name }) }));
  return list.length > 0 && el('div', { class: 'actions' }, list);
}

function drawChosen() {
  const these = (state.machines ?? []).filter((m) => chosen.has(m.id) && m.mayRequest);
  replace(bar, these.length > 1 && el('div', { class: 'chosen-row', role: 'region', 'aria-label': t('machines.chosen') },
    el('span', { text: tn('machines.selected', these.length) }),
    button(t('machine.ask'), () => openRequest(these, () => { chosen.clear(); draw(); }), { kind: 'primary', key: 'ask-chosen' }),
    button(t('machines.clear'), () => { chosen.clear(); draw(); }, { kind: 'plain', key: 'clear-chosen' })));
}
