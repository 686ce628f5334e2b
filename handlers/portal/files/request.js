// Asking for access: a switch for each port, where from, how long, why.
import { Problem, call, explain } from './api.js';
import { dialog, el, field, newId, setFault, toast } from './dom.js';
import { t, tn } from './i18n.js';
import { grants, put, state } from './state.js';
import { at, seconds, words } from './time.js';
import { timeField } from './timefield.js';

const services = { 22: 'SSH', 3389: 'RDP', 5985: 'WinRM HTTP', 5986: 'WinRM HTTPS' };
export const portLabel = (p) => [String(p.number), services[p.number], p.protocol === '*' ? t('protocol.any') : p.protocol].filter(Boolean).join(' · ');

// openRequest opens the form for machines that one may ask for.
export function openRequest(machines, sent) {
  const single = machines.length === 1 && machines[0].ports.length === 1;
  const rows = machines.flatMap((m) => m.ports.map((p) => portRow(m, p, single)));
  const needs = (what) => machines.some((m) => m[what]);
  const why = field(t('request.why'), el('textarea', { rows: '2', maxlength: '1024' }), { required: needs('requireJustification'), name: 'justification' });
  const ticket = field(t('request.ticket'), el('input', { type: 'text', maxlength: '128', autocomplete: 'off' }), { required: needs('requireTicket'), name: 'ticket' });
  const start = field(t('request.start'), el('input', { type: 'datetime-local' }), { hint: t('request.startHint'), name: 'start' });
  const sections = machines.map((m) => el('section', { class: 'ports', 'aria-label': m.name },
    machines.length > 1 && el('h3', { text: m.name }), rows.filter((r) => r.machine === m).map((r) => r.node),
    m.ports.length === 0 && el('p', { class: 'muted', text: t('request.noPorts') })));
  const form = { rows, machines, why, ticket, start, attempt: {} };
  dialog({
    title: machines.length === 1 ? t('request.title', { name: machines[0].name }) : tn('request.titleMany', machines.length),
    body: el('div', { class: 'stack' }, el('p', { class: 'muted', text: t('request.lead') }), sections, why.node, ticket.node,
      el('details', { class: 'later' }, el('summary', { text: t('request.later') }), start.node)),
    submitText: t('request.send'),
    submit: () => submit(form, sent),
    fail: (error) => fail(form, error),
  });
}

function portRow(machine, port, on) {
  const head = newId('port');
  const toggle = el('input', { type: 'checkbox', role: 'switch', checked: on, 'aria-describedby': `${head}-hint ${head}-fault` });
  const address = state.me.address;
  const group = newId('source');
  const mine = el('input', { type: 'radio', name: group, value: 'mine', checked: Boolean(address), disabled: !address });
  const other = el('input', { type: 'radio', name: group, value: 'range', checked: !address });
  const range = el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', placeholder: '203.0.113.0/24', 'aria-label': t('request.range'), disabled: Boolean(address) });
  const rangeFault = el('p', { class: 'fault', id: newId('fault'), hidden: true });
  range.setAttribute('aria-describedby', rangeFault.id);
  for (const radio of [mine, other]) {
    radio.addEventListener('change', () => { range.disabled = mine.checked; if (!mine.checked) range.focus(); });
  }
  const time = timeField(t('request.time'), seconds(port.maxRequestAccessDuration));
  const body = el('div', { class: 'port-body', hidden: !on },
    el('fieldset', { class: 'source' }, el('legend', { text: t('request.source') }),
      el('label', { class: 'choice' }, mine, el('span', {}, address ? t('request.myAddress') : t('request.noAddress'), address && el('code', { text: ` ${address}` }))),
      el('div', { class: 'choice' }, el('label', {}, other, el('span', { text: t('request.otherRange') })), range), rangeFault),
    time.node);
  const fault = el('p', { class: 'fault', id: `${head}-fault`, hidden: true });
  const node = el('fieldset', { class: 'port', data: { port: String(port.number), machine: machine.name } },
    el('legend', { class: 'hidden-text', text: `${machine.name} ${portLabel(port)}` }),
    el('label', { class: 'switch' }, toggle, el('span', { class: 'track', 'aria-hidden': 'true' }), el('span', { class: 'port-name', text: portLabel(port) }),
      el('span', { class: 'switch-word', 'aria-hidden': 'true', text: t(on ? 'switch.on' : 'switch.off') })),
    el('p', { class: 'hint', id: `${head}-hint`, text: t('request.limits', { from: port.allowedSourceAddressPrefixes.join(', '), most: words(seconds(port.maxRequestAccessDuration)) }) }),
    fault, body);
  const row = { machine, port, node, toggle, clear() { setFault(toggle, fault, null); setFault(range, rangeFault, null); node.classList.remove('refused'); } };
  toggle.addEventListener('change', () => {
    body.hidden = !toggle.checked;
    node.querySelector('.switch-word').textContent = t(toggle.checked ? 'switch.on' : 'switch.off');
    row.clear();
  });
  row.fail = (content) => { setFault(toggle, fault, content); node.classList.add('refused'); };
  row.read = () => {
    const source = mine.checked ? undefined : range.value.trim();
    const duration = time.value();
    if (source === '') setFault(range, rangeFault, t('request.rangeMissing'));
    if (source === '' || !duration) return undefined;
    return { number: port.number, protocol: port.protocol, ...(source && { allowedSourceAddressPrefix: source }), duration };
  };
  return row;
}

// Told is a fault of the form itself, found before anything was sent.
class Told extends Error {}

function read(form) {
  const message = { virtualMachines: [] };
  form.sent = [];
  let whole = true;
  for (const machine of form.machines) {
    const ports = [];
    for (const row of form.rows.filter((r) => r.machine === machine && r.toggle.checked)) {
      const port = row.read();
      if (!port) { whole = false; continue; }
      form.sent.push({ row, path: `virtualMachines[${message.virtualMachines.length}].ports[${ports.length}]` });
      ports.push(port);
    }
    if (ports.length) message.virtualMachines.push({ id: machine.id, ports });
  }
  for (const [name, f] of [['justification', form.why], ['ticket', form.ticket]]) {
    const text = f.control.value.trim();
    if (text) message[name] = text;
    else if (f.control.hasAttribute('aria-required')) { f.fail(t(`reason.${name}_required`)); whole = false; }
  }
  if (form.start.control.value) message.startTimeUtc = new Date(form.start.control.value).toISOString();
  if (whole && !message.virtualMachines.length) throw new Told(t('request.noneOn'));
  if (!whole) throw new Told(t('form.incomplete'));
  return message;
}

async function submit(form, sent) {
  for (const f of [form.why, form.ticket, form.start]) f.fail(null);
  for (const row of form.rows) row.clear();
  const message = read(form);
  // The same form sent again after a lost answer is the same request.
  const text = JSON.stringify(message);
  if (form.attempt.text !== text) form.attempt = { text, key: crypto.randomUUID() };
  let made;
  try {
    made = (await call('POST', '/api/access-requests', { body: message, headers: { 'Idempotency-Key': form.attempt.key } })).data;
  } catch (problem) {
    if (problem.status) form.attempt = {};
    throw problem;
  }
  put(made);
  toast(t('request.done', { what: grants(made).length === 1 ? `${form.sent[0].row.machine.name}:${form.sent[0].row.port.number}` : tn('count.ports', grants(made).length) }));
  sent?.();
  location.hash = 'access';
}

// fail puts every violation beside what it is about, and gives what is left.
function fail(form, error) {
  if (!(error instanceof Problem)) return [error.message];
  const rest = [];
  let placed = 0;
  for (const v of error.violations) {
    const words = explain(v.reason, v.message);
    const at = form.sent.find((s) => v.path === s.path || v.path?.startsWith(`${s.path}.`));
    const box = { justification: form.why, ticket: form.ticket, startTimeUtc: form.start }[v.path || v.reason.replace(/_required$/, '')];
    placed++;
    if (at) at.row.fail(words);
    else if (box) box.fail(words);
    else { rest.push(words); placed--; }
  }
  if (!error.violations.length) return [explain(error.reason, error.message)];
  if (placed) rest.unshift(tn('request.refused', placed));
  return rest;
}
