// A change of a policy, shown before it is made: what is written and removed,
// and what of the customer's own rules is in its way.
import { names } from './api.js';
import { el, icon } from './dom.js';
import { t, tn } from './i18n.js';
import { machineName } from './state.js';
import { at } from './time.js';

const warning = (text) => el('li', { class: 'warning' }, icon('warn'), el('span', { text }));

// planView shows a Change of the API.
export function planView(change) {
  const cut = change.notAllowedGrants ?? [];
  const machines = change.machines ?? [];
  const nothing = machines.every((m) => !m.unsupported && m.networkSecurityGroups.every((g) => !work(g)));
  return el('div', { class: 'plan stack' },
    cut.length > 0 && el('section', {}, el('h3', { text: tn('plan.cut', cut.length) }), el('ul', { class: 'notes' }, cut.map((g) =>
      warning(t('plan.cutGrant', { what: `${machineName(g.virtualMachine)}:${g.port}`, who: g.requestor, when: at(g.endTimeUtc), why: [g.why].flat().join('; ') }))))),
    nothing && el('p', { text: t('plan.nothing') }),
    machines.filter((m) => m.unsupported || m.networkSecurityGroups.some(work)).map(machineView));
}

const work = (g) => g.put?.length || g.remove?.length || g.past?.length || g.blocking?.length || g.cutOff?.length || g.blockedBy;

function machineView(m) {
  return el('section', { class: 'plan-machine' }, el('h3', { text: machineName(m.id) }),
    m.unsupported && el('ul', { class: 'notes' }, warning(m.unsupported)),
    m.networkSecurityGroups.filter(work).map(groupView));
}

function groupView(g) {
  const nsg = names(g.id).last;
  return el('div', { class: 'plan-group' }, el('h4', { text: nsg }),
    g.put?.length > 0 && table(t('plan.put', { nsg }), g.put),
    g.remove?.length > 0 && el('p', {}, t('plan.remove'), ' ', g.remove.map((name, i) => [i ? ', ' : '', el('code', { text: name })])),
    el('ul', { class: 'notes' },
      g.blockedBy && warning(t('plan.blockedBy', { why: g.blockedBy })),
      (g.past ?? []).map((a) => warning(t('plan.past', { rule: a.rule, priority: a.priority, advice: a.advice }))),
      (g.blocking ?? []).map((a) => warning(t('plan.blocking', { rule: a.rule, priority: a.priority, advice: a.advice }))),
      (g.cutOff ?? []).map((a) => warning(t('plan.cutOff', { what: a.what, advice: a.advice })))));
}

function table(caption, rules) {
  const columns = ['name', 'priority', 'access', 'protocol', 'sources', 'destinations', 'ports'];
  return el('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': caption }, el('table', {}, el('caption', { text: caption }),
    el('thead', {}, el('tr', {}, columns.map((c) => el('th', { scope: 'col', text: t(`plan.${c}`) })))),
    el('tbody', {}, rules.map((r) => el('tr', { data: { rule: r.name } }, columns.map((c) => el('td', { text: [r[c]].flat().join(', ') })))))));
}
