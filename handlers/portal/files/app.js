// The page: who is signed in, which view is shown, and what keeps it going.
import { Problem, explain, get } from './api.js';
import { announce, badge, button, el, icon, replace } from './dom.js';
import { language, t } from './i18n.js';
import { grants, mayAdminister, mayAnything, mayReadAll, mayRequest, machineName, onChange, refresh, follow, state } from './state.js';
import { at } from './time.js';
import * as machines from './machines.js';
import * as access from './access.js';
import * as history from './history.js';
import * as admin from './admin.js';
import { tick } from './grant.js';

const main = document.getElementById('main');

const views = {
  machines: { may: mayAnything, view: machines, parts: ['machines', 'lockdown'] },
  access: { may: mayRequest, view: access, parts: ['mine', 'machines'] },
  history: { may: () => mayRequest() || mayReadAll(), view: history, parts: ['machines'] },
  admin: { may: mayReadAll, view: admin, parts: ['everybody', 'machines', 'lockdown'] },
};

let shown;

function wanted() {
  const name = location.hash.slice(1);
  return views[name]?.may() ? name : Object.keys(views).find((n) => views[n].may());
}

// show draws the view that the address names; go says that a person went there.
function show(go) {
  const name = wanted();
  if (!name) return showRoles();
  nav(name);
  document.title = `${t(`nav.${name}`)} – Portcullis`;
  if (shown !== name) {
    shown = name;
    const title = el('h1', { text: t(`nav.${name}`), tabindex: '-1' });
    main.replaceChildren(title, el('p', { class: 'lead', text: t(`${name}.lead`) }), ...views[name].view.frame());
    if (go) title.focus();
  }
  views[name].view.draw();
}

function nav(current) {
  const links = Object.entries(views).filter(([, v]) => v.may()).map(([name]) => el('a', {
    href: `#${name}`, text: t(`nav.${name}`), 'aria-current': name === current ? 'page' : null, data: { key: `nav-${name}` },
  }));
  const bar = document.getElementById('nav');
  bar.hidden = false;
  bar.setAttribute('aria-label', t('nav.label'));
  replace(bar, links);
}

function who() {
  const place = document.getElementById('who');
  place.hidden = !state.me;
  if (!state.me) return;
  place.replaceChildren(el('span', { class: 'me', text: state.me.name }),
    el('a', { href: '/.auth/logout?post_logout_redirect_uri=/', text: t('signOut') }));
}

function lockdown() {
  const place = document.getElementById('lockdown');
  const now = state.lockdown;
  if (!now?.active) return place.replaceChildren();
  place.replaceChildren(el('div', { class: 'banner' }, el('div', { class: 'wrap banner-row' }, icon('stop'),
    el('p', {}, el('strong', { text: t('lockdown.on') }), ' ', el('span', { text: now.reason }),
      now.by && el('span', { class: 'muted', text: ` ${t('lockdown.by', { who: now.by, when: now.at ? at(now.at) : '' })}` })))));
}

function showSignIn(problem) {
  shown = undefined;
  document.getElementById('nav').hidden = true;
  document.getElementById('lockdown').replaceChildren();
  who();
  document.title = 'Portcullis';
  const refused = problem && problem.reason !== 'token_missing';
  main.replaceChildren(el('section', { class: 'welcome' },
    el('h1', { text: t('welcome.title'), tabindex: '-1' }),
    el('p', { class: 'lead', text: t('welcome.lead') }),
    refused && el('p', { role: 'alert' }, explain(problem.reason, problem.message)),
    el('p', {}, el('a', { class: 'button primary', href: '/.auth/login/aad?post_login_redirect_uri=/', text: t('signIn') }))));
}

function showRoles() {
  shown = undefined;
  document.getElementById('nav').hidden = true;
  main.replaceChildren(el('section', { class: 'welcome' }, el('h1', { text: t('roles.title'), tabindex: '-1' }),
    el('p', { class: 'lead', text: t('roles.lead', { name: state.me.name }) }),
    el('ul', { class: 'plain-list' }, ['Access.Request', 'Access.ReadAll', 'Portcullis.Administer'].map((role) =>
      el('li', {}, el('code', { text: role }), ' ', el('span', { text: t(`role.${role}`) }))))));
}

function showTrouble(problem) {
  main.replaceChildren(el('section', { class: 'welcome' }, el('h1', { text: t('trouble.title'), tabindex: '-1' }),
    el('p', { role: 'alert' }, explain(problem.reason, problem.message)), el('p', {}, button(t('trouble.again'), start, { kind: 'primary' }))));
}

// tell announces what changed about my ports since they were last read.
const told = new Map();
function tell() {
  const first = told.size === 0;
  for (const request of state.mine ?? []) {
    for (const g of grants(request)) {
      const key = `${request.id} ${g.index}`;
      if (!first && told.has(key) && told.get(key) !== g.status && g.status) {
        announce(t(`tell.${g.status}`, { machine: machineName(g.vm), port: g.number, when: g.endTimeUtc ? at(g.endTimeUtc) : '' }));
      }
      told.set(key, g.status);
    }
  }
  told.set('', '');
}

onChange((part) => {
  if (!state.me) return showSignIn(state.problems[part]);
  if (part === 'lockdown') lockdown();
  if (part === 'mine') tell();
  if (shown && views[shown].parts.includes(part)) views[shown].view.draw();
});

async function start() {
  document.documentElement.lang = language;
  const skip = document.getElementById('skip');
  skip.textContent = t('skip');
  skip.onclick = (event) => { event.preventDefault(); main.focus(); };
  main.replaceChildren(el('p', { class: 'muted', text: t('loading') }));
  try {
    state.me = await get('/api/me');
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return error.status === 401 ? showSignIn(error) : showTrouble(error);
  }
  who();
  show(false);
  await refresh('machines', 'mine', 'everybody', 'lockdown');
}

window.addEventListener('hashchange', () => { if (state.me) show(true); });
document.addEventListener('visibilitychange', () => { if (!document.hidden && state.me) refresh('mine', 'everybody', 'lockdown'); });
setInterval(tick, 1000);
follow();
start();
