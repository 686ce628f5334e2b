// Enabling, changing and disabling, always with the plan first.
import { Problem, call, explain, names, policyPath } from './api.js';
import { announce, dialog, el, field, newId, setFault, toast } from './dom.js';
import { t } from './i18n.js';
import { refresh } from './state.js';
import { seconds } from './time.js';
import { timeField } from './timefield.js';
import { portLabel } from './request.js';
import { planView } from './plan.js';

const DAY = 86400;
const lines = (text) => text.split(/[\s,;、，]+/).filter(Boolean);

// place says what a policy's scope covers.
function place(scope) {
  const { machine, resourceGroup, subscription } = names(scope);
  return machine ? t('scope.machine', { name: machine }) : resourceGroup ? t('scope.group', { name: resourceGroup }) : t('scope.subscription', { name: subscription });
}

const scopeOf = (m) => (m.status === 'Configured' && m.policyScope) || m.id;

async function stored(scope) {
  try {
    const { data, etag } = await call('GET', policyPath(scope));
    return { policy: data, etag };
  } catch (problem) {
    if (problem.status === 404) return { policy: undefined };
    throw problem;
  }
}

// openEnable edits the policy that a machine stands under, or makes its own.
export async function openEnable(m) {
  const scope = scopeOf(m);
  let was;
  try {
    was = await stored(scope);
  } catch (problem) {
    return toast(problem.message, 'bad');
  }
  const p = was.policy;
  const suggested = (p ? p.ports : []).concat((m.suggestedPorts ?? []).filter((s) => !p?.ports.some((q) => q.number === s.number)));
  const rows = suggested.map((port, i) => portRow(port, p ? i < p.ports.length : true));
  const who = area(t('policy.requestors'), p?.requestors ?? ['*'], t('policy.requestorsHint'), 'requestors');
  const standing = area(t('policy.standing'), p?.standingSources ?? [], t('policy.standingHint'), 'standing');
  const justification = check(t('policy.justification'), p?.requireJustification ?? true);
  const ticket = check(t('policy.ticket'), p?.requireTicket ?? false);
  const closing = check(t('plan.close'), false);
  const extra = el('div', { class: 'stack' });
  const add = el('input', { type: 'number', min: '1', max: '65535', inputmode: 'numeric' });
  const another = field(t('policy.addPort'), add, { name: 'add-port' });
  const list = el('div', { class: 'ports' }, rows.map((r) => r.node));
  const addButton = el('button', { type: 'button', text: t('policy.add'), on: { click: () => {
    const number = Number(add.value);
    const good = Number.isInteger(number) && number > 0 && number < 65536 && !rows.some((r) => r.number === number);
    another.fail(good ? null : t('policy.portInvalid'));
    if (!good) return add.focus();
    const row = portRow({ number, protocol: 'TCP', allowedSourceAddressPrefixes: [], maxRequestAccessDuration: 'PT3H' }, true);
    rows.push(row);
    list.append(row.node);
    add.value = '';
    row.node.querySelector('input').focus();
  } } });
  const form = { scope, was, rows, who, standing, justification, ticket, closing, extra };
  planFirst({
    form, title: t(p ? 'policy.changeTitle' : 'policy.title', { name: m.name }), done: t(p ? 'policy.changed' : 'policy.enabled', { name: m.name }),
    body: el('div', { class: 'stack' }, el('p', { class: 'muted', text: t('policy.scope', { scope: place(scope) }) }), list,
      el('div', { class: 'inline' }, another.node, addButton), who.node, justification.node, ticket.node,
      el('details', { class: 'later', open: (p?.standingSources ?? []).length > 0 }, el('summary', { text: t('policy.more') }), standing.node), extra),
    write: (query) => call('PUT', policyPath(scope) + query, { body: document_(form), headers: was.etag ? { 'If-Match': was.etag } : { 'If-None-Match': '*' } }),
  });
}

// document_ is the policy as the form has it, with what the form does not show
// kept as it was.
function document_(form) {
  return {
    ...form.was.policy, scope: form.scope, baseline: true,
    ports: form.rows.filter((r) => r.on()).map((r) => r.read()),
    requestors: lines(form.who.control.value), standingSources: lines(form.standing.control.value),
    requireJustification: form.justification.control.checked, requireTicket: form.ticket.control.checked,
  };
}

export async function openDisable(m) {
  const scope = scopeOf(m);
  let was;
  try {
    was = await stored(scope);
  } catch (problem) {
    return toast(problem.message, 'bad');
  }
  const extra = el('div', { class: 'stack' });
  const form = { scope, was, rows: [], closing: check(t('plan.close'), false), extra };
  planFirst({
    form, title: t('disable.title', { name: m.name }), kind: 'danger', at: true, done: t('disable.done', { name: m.name }),
    body: el('div', { class: 'stack' }, el('p', { text: t('disable.lead') }), el('p', { class: 'muted', text: t('policy.scope', { scope: place(scope) }) }), extra),
    write: (query) => call('DELETE', policyPath(scope) + query, { headers: was.etag ? { 'If-Match': was.etag } : {} }),
  });
}

// planFirst opens a form whose first press shows the plan, and whose second
// carries that out. Any change of the form takes back to the first.
function planFirst({ form, title, body, write, done, kind, at }) {
  let planned = false;
  const box = dialog({
    title, body, kind: kind ?? 'primary', submitText: t('plan.show'), wide: true,
    async submit() {
      for (const row of form.rows) row.clear();
      if (form.rows.length && !form.rows.some((r) => r.on())) throw new Error(t('policy.noPorts'));
      if (form.rows.some((r) => r.on() && !r.read().maxRequestAccessDuration)) throw new Error(t('form.incomplete'));
      if (!planned) {
        show((await write('?plan=true')).data);
        return false;
      }
      await write(form.closing.control.checked ? '?closeGrants=true' : '');
      toast(done);
      await refresh('machines', 'mine', 'everybody');
      return true;
    },
    fail: (error) => { back(); return fail(form, error); },
  });
  function show(change) {
    const heading = el('h3', { class: 'plan-title', tabindex: '-1', text: t('plan.title') });
    const cut = (change.notAllowedGrants ?? []).length > 0;
    form.extra.replaceChildren(heading, planView(change), cut ? form.closing.node : '');
    planned = true;
    box.send.textContent = t('plan.write');
    announce(t('plan.shown'));
    heading.focus();
  }
  function back() {
    planned = false;
    box.send.textContent = t('plan.show');
    form.extra.replaceChildren();
  }
  box.form.addEventListener('input', (event) => { if (planned && event.target !== form.closing.control) back(); });
  box.form.addEventListener('change', (event) => { if (planned && event.target !== form.closing.control) back(); });
  if (at) box.form.requestSubmit();
}

function portRow(port, on) {
  const id = newId('policy-port');
  const toggle = el('input', { type: 'checkbox', role: 'switch', checked: on });
  const protocol = field(t('policy.protocol'), el('select', {}, ['TCP', 'UDP', '*'].map((p) => el('option', { value: p, text: p === '*' ? t('protocol.any') : p }))));
  protocol.control.value = port.protocol;
  const from = field(t('policy.sources'), el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false' }), { hint: t('policy.sourcesHint'), name: 'sources' });
  from.control.value = (port.allowedSourceAddressPrefixes ?? [port.allowedSourceAddressPrefix]).filter(Boolean).join(', ');
  const most = timeField(t('policy.most'), DAY, { preset: seconds(port.maxRequestAccessDuration), name: 'most' });
  const body = el('div', { class: 'port-body', hidden: !on }, from.node, protocol.node, most.node);
  const fault = el('p', { class: 'fault', id: `${id}-fault`, hidden: true });
  toggle.setAttribute('aria-describedby', fault.id);
  const word = el('span', { class: 'switch-word', 'aria-hidden': 'true', text: t(on ? 'switch.on' : 'switch.off') });
  toggle.addEventListener('change', () => { body.hidden = !toggle.checked; word.textContent = t(toggle.checked ? 'switch.on' : 'switch.off'); });
  const node = el('fieldset', { class: 'port', data: { port: String(port.number) } },
    el('legend', { class: 'hidden-text', text: portLabel(port) }),
    el('label', { class: 'switch' }, toggle, el('span', { class: 'track', 'aria-hidden': 'true' }), el('span', { class: 'port-name', text: portLabel({ number: port.number }) }), word),
    fault, body);
  return {
    node, number: port.number, on: () => toggle.checked,
    read: () => ({ number: port.number, protocol: protocol.control.value, allowedSourceAddressPrefixes: lines(from.control.value), maxRequestAccessDuration: most.value() }),
    fail: (words) => { setFault(toggle, fault, words); node.classList.add('refused'); },
    clear: () => { setFault(toggle, fault, null); node.classList.remove('refused'); },
  };
}

function area(label, list, hint, name) {
  const f = field(label, el('textarea', { rows: '2', spellcheck: 'false' }), { hint, name });
  f.control.value = list.join('\n');
  return f;
}

function check(label, on) {
  const control = el('input', { type: 'checkbox', checked: on });
  return { control, node: el('label', { class: 'choice' }, control, el('span', { text: label })) };
}

function fail(form, error) {
  if (!(error instanceof Problem)) return [error.message];
  const on = form.rows.filter((r) => r.on());
  const rest = [];
  for (const v of error.violations) {
    const words = explain(v.reason, v.message);
    const i = /^ports\[(\d+)\]/.exec(v.path ?? '')?.[1];
    const row = i !== undefined && on[Number(i)];
    const box = v.path?.startsWith('requestors') ? form.who : v.path?.startsWith('standingSources') ? form.standing : undefined;
    if (row) row.fail(words);
    else if (box) box.fail(words);
    else rest.push(words);
  }
  return rest.length && error.violations.length ? rest : [explain(error.reason, error.message)];
}
