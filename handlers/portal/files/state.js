// What the page knows, and how it keeps that fresh.
import { Problem, all, get } from './api.js';

export const state = {
  me: undefined,
  machines: undefined,  // all there are to see
  mine: undefined,      // my requests, newest first
  everybody: undefined, // live requests of everybody, for those who may see them
  lockdown: undefined,
  problems: {},         // what could not be read, by part
};

const LIVE = ['Scheduled', 'Initiating', 'Initiated'];

export const has = (role) => Boolean(state.me?.roles.includes(role));
export const mayRequest = () => has('Access.Request');
export const mayAdminister = () => has('Portcullis.Administer');
export const mayReadAll = () => has('Access.ReadAll') || mayAdminister();
export const mayAnything = () => (state.me?.roles.length ?? 0) > 0;

// grants lists a request's ports, each with its index among the request's grants.
export function grants(request) {
  const list = [];
  for (const vm of request.virtualMachines ?? []) {
    for (const port of vm.ports) list.push({ ...port, vm: vm.id, index: port.index ?? list.length });
  }
  return list;
}

export const isLive = (grant) => LIVE.includes(grant.status);
export const isMoving = (grant) => grant.status === 'Initiating' || (isLive(grant) && Boolean(grant.statusReason));
export const liveGrants = (request) => (request.outcome === 'Accepted' ? grants(request).filter(isLive) : []);
export const machineOf = (id) => state.machines?.find((m) => m.id.toLowerCase() === id.toLowerCase());
export const machineName = (id) => machineOf(id)?.name ?? id.split('/').pop();

// A day holds the longest grant there can be for long; older ones are in the
// history.
const minePath = () => {
  const who = mayReadAll() ? `&requestor=${encodeURIComponent(state.me.name)}` : '';
  return `/api/access-requests?pageSize=50${who}`;
};

async function everybodys() {
  const lists = await Promise.all(LIVE.map((status) => all(`/api/access-requests?status=${status}`)));
  const byId = new Map(lists.flat().map((r) => [r.id, r]));
  return [...byId.values()].sort((a, b) => b.startTimeUtc.localeCompare(a.startTimeUtc));
}

const parts = {
  machines: { may: mayAnything, read: () => all('/api/machines') },
  mine: { may: mayRequest, read: async () => (await get(minePath())).items },
  everybody: { may: mayReadAll, read: everybodys },
  lockdown: { may: mayAnything, read: () => get('/api/lockdown') },
};

const listeners = new Set();
export const onChange = (f) => listeners.add(f);
const before = new Map();

function changed(name) {
  const text = JSON.stringify([state[name], state.problems[name]?.message]);
  if (before.get(name) === text) return;
  before.set(name, text);
  for (const f of listeners) f(name);
}

// refresh reads the named parts anew. What cannot be read keeps its last value
// and says so.
export async function refresh(...which) {
  await Promise.all(which.filter((name) => parts[name].may()).map(async (name) => {
    try {
      state[name] = await parts[name].read();
      delete state.problems[name];
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      state.problems[name] = error;
      if (error.status === 401) state.me = undefined;
    }
    changed(name);
  }));
}

// put keeps a request that an answer showed, ahead of the next reading.
export function put(request) {
  for (const name of ['mine', 'everybody']) {
    const list = state[name];
    if (!list) continue;
    const i = list.findIndex((r) => r.id === request.id);
    if (i >= 0) state[name] = list.with(i, request);
    else if (name === 'mine') state[name] = [request, ...list];
    changed(name);
  }
}

const due = { machines: 60, mine: 30, everybody: 30, lockdown: 30 };
const SOON = 2;

// follow reads each part when it is due: soon while something is on its way.
export function follow() {
  const last = {};
  const moving = () => [...(state.mine ?? []), ...(state.everybody ?? [])].some((r) => liveGrants(r).some(isMoving) || overdue(r) || replaced(r));
  const settling = () => state.machines?.some((m) => ['Shutting', 'Lifting'].includes(m.baseline?.status));
  let busy = false;
  setInterval(async () => {
    if (document.hidden || busy || !state.me) return;
    const now = performance.now() / 1000;
    const soon = moving();
    const wanted = Object.keys(parts).filter((name) => {
      const wait = name === 'machines' && settling() ? 5 : soon && (name === 'mine' || name === 'everybody') ? SOON : due[name];
      return now - (last[name] ?? 0) >= wait;
    });
    if (!wanted.length) return;
    busy = true;
    for (const name of wanted) last[name] = now;
    await refresh(...wanted).finally(() => { busy = false; });
  }, 1000);
  const now = performance.now() / 1000;
  for (const name of Object.keys(parts)) last[name] = now;
}

const overdue = (request) => liveGrants(request).some((g) => Date.parse(g.endTimeUtc) <= Date.now());

// replaced says that another request is taking over what this one holds open.
const replaced = (request) => liveGrants(request).length > 0 && [...(state.mine ?? []), ...(state.everybody ?? [])].some((r) => r.extends === request.id && liveGrants(r).length > 0);
