// One request with its ports: state, what is left of the time, and what may be
// done about it.
import { call, explain } from './api.js';
import { badge, button, dialog, el, field, newId, toast } from './dom.js';
import { t, tn } from './i18n.js';
import { grants, isLive, machineName, machineOf, put, refresh, state } from './state.js';
import { at, clock, now, seconds, words } from './time.js';
import { timeField } from './timefield.js';

const drawings = { Scheduled: ['quiet', 'clock'], Initiating: ['careful', 'clock'], Initiated: ['good', 'open'], Revoked: ['quiet', 'shut'], Failed: ['bad', 'failed'] };

export const statusBadge = (status) => badge(...(drawings[status] ?? ['quiet', 'unknown']), t(`status.${status}`));
export const outcomeBadge = (request) => (request.outcome === 'Refused' ? badge('bad', 'unsupported', t('status.Refused')) : null);

// reasonText says why a grant ended or is ending.
export const reasonText = (reason) => (reason ? t(`ended.${reason}`) : '');

// requestCard shows a request's live ports. by shows whose it is, and revokes in
// place of giving back.
export function requestCard(request, { by = false } = {}) {
  const title = newId('request');
  const list = grants(request).filter(isLive);
  const machines = [...new Set(list.map((g) => machineName(g.vm)))].join(', ');
  const several = list.length > 1;
  return el('article', { class: 'card request', 'aria-labelledby': title, data: { request: request.id } },
    el('div', { class: 'card-head' }, el('div', {}, el('h2', { id: title, text: machines }),
      by && el('p', { text: t('grant.for', { who: request.requestor }) }),
      request.justification && el('p', { class: 'muted', text: request.justification }),
      request.ticket && el('p', { class: 'muted', text: t('grant.ticket', { ticket: request.ticket }) }))),
    el('ul', { class: 'grants' }, list.map((g) => grantRow(request, g, several, by))),
    el('div', { class: 'actions' },
      !by && list.some((g) => g.status === 'Initiated' && !g.statusReason) && button(t('grant.extend'), () => openExtend(request, list), { key: `extend-${request.id}`, label: t('grant.extendOf', { machines }) }),
      by ? button(t('grant.revoke'), () => openRevoke(request), { kind: 'danger', key: `revoke-${request.id}`, label: t('grant.revokeOf', { machines, who: request.requestor }) })
        : button(t(several ? 'grant.giveBackAll' : 'grant.giveBack'), () => giveBack(request), { key: `back-${request.id}`, label: t('grant.giveBackOf', { what: machines }) })));
}

function grantRow(request, g, several, by) {
  const what = `${machineName(g.vm)}:${g.number}`;
  return el('li', { class: 'grant', data: { port: String(g.number), status: g.status } },
    el('div', { class: 'grant-what' }, el('strong', { text: what }), el('span', { class: 'muted', text: t('grant.from', { source: g.allowedSourceAddressPrefix }) })),
    statusBadge(g.status), left(request, g),
    g.blockedBy && el('p', { class: 'fault', text: t('grant.blocked', { why: g.blockedBy }) }),
    several && !by && button(t('grant.giveBack'), () => giveBack(request, g), { kind: 'plain', key: `back-${request.id}-${g.index}`, label: t('grant.giveBackOf', { what }) }));
}

// left counts down to the deadline. It is a timer, not announced at each second.
function left(request, g) {
  const closing = g.statusReason && el('span', { text: `${t('grant.closing')} ${reasonText(g.statusReason)}` });
  if (closing) return el('p', { class: 'left' }, closing);
  if (g.status === 'Initiating') return el('p', { class: 'left', text: t('grant.opening') });
  const until = g.status === 'Scheduled' ? request.startTimeUtc : g.endTimeUtc;
  const from = g.openedAtUtc ?? request.startTimeUtc;
  const time = el('span', { class: 'countdown', role: 'timer', 'aria-live': 'off', data: { until } });
  const meter = g.status === 'Initiated' && el('progress', { max: '1', 'aria-hidden': 'true', data: { from, until } });
  const line = el('p', { class: 'left' }, el('span', { text: t(g.status === 'Scheduled' ? 'grant.opensIn' : 'grant.leftOver') }), ' ', time,
    el('span', { class: 'muted', text: t(g.status === 'Scheduled' ? 'grant.opensAt' : 'grant.until', { when: at(until) }) }));
  const node = el('div', { class: 'time-left' }, line, meter);
  count(node);
  return node;
}

function count(root) {
  for (const node of root.querySelectorAll('.countdown')) {
    const rest = (Date.parse(node.dataset.until) - now()) / 1000;
    node.textContent = rest > 0 ? clock(rest) : t('grant.due');
  }
  for (const node of root.querySelectorAll('progress[data-until]')) {
    const [from, until] = [Date.parse(node.dataset.from), Date.parse(node.dataset.until)];
    node.value = Math.min(1, Math.max(0, (until - now()) / Math.max(1, until - from)));
  }
}

// tick moves every countdown on the page.
export const tick = () => count(document);

async function giveBack(request, grant) {
  const body = grant ? { grants: [grant.index] } : {};
  try {
    put((await call('POST', `/api/access-requests/${request.id}/revoke`, { body })).data);
    toast(t('grant.givenBack', { what: grant ? `${machineName(grant.vm)}:${grant.number}` : tn('count.ports', grants(request).filter(isLive).length) }));
  } catch (problem) {
    toast(problem.message, 'bad');
    await refresh('mine');
  }
}

function openRevoke(request) {
  const reason = field(t('revoke.reason'), el('input', { type: 'text', maxlength: '1024' }), { name: 'reason' });
  dialog({
    title: t('revoke.title', { who: request.requestor }), kind: 'danger', submitText: t('grant.revoke'),
    body: el('div', { class: 'stack' }, el('p', { text: t('revoke.lead') }),
      el('ul', {}, grants(request).filter(isLive).map((g) => el('li', { text: `${machineName(g.vm)}:${g.number}` }))), reason.node),
    async submit() {
      const text = reason.control.value.trim();
      put((await call('POST', `/api/access-requests/${request.id}/revoke`, { body: text ? { reason: text } : {} })).data);
      toast(t('revoke.done'));
    },
    fail: (problem) => [explain(problem.reason, problem.message)],
  });
}

// firstStart is when the door that a request keeps open was first opened: that of
// the request which it extends, and so on.
function firstStart(request) {
  const before = request.extends && state.mine?.find((r) => r.id === request.extends);
  return before ? firstStart(before) : Date.parse(request.startTimeUtc);
}

// room is how long the ports may stay open from now, in seconds: the policy's
// maximum counts from the first start. Where the maximum is not known, an hour.
function room(request, list) {
  const of = list.map((g) => machineOf(g.vm)?.ports?.find((p) => p.number === g.number)?.maxRequestAccessDuration).map(seconds).filter((n) => n > 0);
  if (!of.length) return 3600;
  const left = Math.min(...of) - (now() - firstStart(request)) / 1000;
  return left > 120 ? Math.floor(left / 60) * 60 : Math.floor(left);
}

function openExtend(request, list) {
  const most = room(request, list);
  const rest = Math.max(...list.map((g) => (Date.parse(g.endTimeUtc) - now()) / 1000));
  if (most <= rest) return toast(t('extend.none'), 'bad');
  const time = timeField(t('extend.time'), most, { hint: t('extend.hint') });
  const why = field(t('request.why'), el('textarea', { rows: '2', maxlength: '1024' }), { name: 'justification' });
  why.control.value = request.justification ?? '';
  dialog({
    title: t('extend.title', { what: [...new Set(list.map((g) => machineName(g.vm)))].join(', ') }), submitText: t('grant.extend'),
    body: el('div', { class: 'stack' }, el('p', { class: 'muted', text: t('extend.lead', { most: words(most) }) }), time.node, why.node),
    async submit() {
      const duration = time.value();
      if (!duration) return false;
      const justification = why.control.value.trim();
      put((await call('POST', `/api/access-requests/${request.id}/extend`, { body: { duration, ...(justification && { justification }) } })).data);
      toast(t('extend.done'));
      await refresh('mine');
      return true;
    },
    fail: (problem) => {
      const lines = (problem.violations ?? []).map((v) => explain(v.reason, v.message));
      return lines.length ? lines : [explain(problem.reason, problem.message)];
    },
  });
}

