// The choice of a time: the usual ones up to a maximum, or any other.
import { el, field } from './dom.js';
import { t } from './i18n.js';
import { choices, iso, seconds, words } from './time.js';

// timeField lets choose up to most seconds. value() gives it as the API takes it,
// or undefined after marking the fault.
export function timeField(label, most, { preset, name = 'duration', hint } = {}) {
  const list = choices(most);
  const start = preset && list.includes(preset) ? preset : list.includes(3600) ? 3600 : most;
  const select = el('select', {}, list.map((n) => el('option', { value: String(n), text: words(n) + (n === most ? t('time.most') : '') })),
    el('option', { value: 'other', text: t('time.other') }));
  const other = el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', placeholder: '45m' });
  if (preset && !list.includes(preset)) {
    select.value = 'other';
    other.value = iso(preset);
  } else select.value = String(start);
  const choice = field(label, select, { name, hint });
  const own = field(t('time.own'), other, { hint: t('time.ownHint'), name: `${name}-own` });
  const sync = () => { own.node.hidden = select.value !== 'other'; };
  select.addEventListener('change', () => { sync(); if (select.value === 'other') other.focus(); });
  sync();
  return {
    node: el('div', { class: 'time' }, choice.node, own.node),
    fail: (text) => (select.value === 'other' ? own : choice).fail(text),
    value() {
      own.fail(null);
      choice.fail(null);
      const n = select.value === 'other' ? seconds(other.value) : Number(select.value);
      if (n > 0) return iso(n);
      own.fail(t('time.invalid'));
      return undefined;
    },
  };
}
