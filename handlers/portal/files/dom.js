// Elements, icons, announcements and dialogs. Text goes in as text, never as
// markup; the page's policy would refuse it.
import { t } from './i18n.js';

const SVG = 'http://www.w3.org/2000/svg';

// Each drawing fits a box of 20 by 20 and is stroked in the text's colour.
const icons = {
  shut: 'M5 9h10v8H5zM7 9V6.500a3 3 0 0 1 6 0V9',
  open: 'M5 9h10v8H5zM7 9V6.500a3 3 0 0 1 5.800-1',
  none: 'M4 10h12',
  unsupported: 'M5 5l10 10M15 5L5 15',
  warn: 'M10 3l7.500 13.500h-15zM10 8v4M10 14v.5',
  unknown: 'M7.500 7.500a2.500 2.500 0 1 1 3.600 2.200c-.8.4-1.100.9-1.100 1.800M10 14.500v.5',
  clock: 'M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14M10 6v4l2.500 2',
  done: 'M4 10.500l4 4l8-9',
  failed: 'M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14M10 6v5M10 13.500v.5',
  stop: 'M7 3h6l4 4v6l-4 4H7l-4-4V7zM7 10h6',
};

// el makes an element. Properties: class, text, on (listeners by event), data,
// and attributes by name; one that is null, undefined or false is left out.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') node.className = value;
    else if (name === 'text') node.textContent = value;
    else if (name === 'on') for (const [event, f] of Object.entries(value)) node.addEventListener(event, f);
    else if (name === 'data') Object.assign(node.dataset, value);
    else if (name === 'value' || name === 'checked') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const path = document.createElementNS(SVG, 'path');
  for (const [k, v] of Object.entries({ viewBox: '0 0 20 20', class: 'icon', 'aria-hidden': 'true', focusable: 'false' })) svg.setAttribute(k, v);
  path.setAttribute('d', icons[name] ?? icons.unknown);
  svg.append(path);
  return svg;
}

// badge is a state in a shape, a word and a colour, so that none is needed alone.
export function badge(kind, drawing, text) {
  return el('span', { class: `badge ${kind}` }, icon(drawing), el('span', { text }));
}

export function button(text, onClick, { kind = '', key, label, disabled } = {}) {
  return el('button', { type: 'button', class: kind, text, 'aria-label': label, disabled, data: key ? { key } : undefined, on: { click: onClick } });
}

let lastId = 0;
export const newId = (name) => `${name}-${++lastId}`;

// field is a labelled control with a hint and a place for its fault.
export function field(label, control, { hint, required, name } = {}) {
  const id = control.id || newId('f');
  control.id = id;
  const fault = el('p', { class: 'fault', id: `${id}-fault`, hidden: true });
  const note = hint && el('p', { class: 'hint', id: `${id}-hint`, text: hint });
  control.setAttribute('aria-describedby', [note && note.id, fault.id].filter(Boolean).join(' '));
  if (required) control.setAttribute('aria-required', 'true');
  const node = el('div', { class: 'field', data: name ? { field: name } : undefined },
    el('label', { for: id }, label, required && el('span', { class: 'needed', text: ` ${t('form.required')}` })), note, control, fault);
  return { node, control, fail: (text) => setFault(control, fault, text) };
}

// setFault shows what is wrong with a control, or with null that nothing is.
export function setFault(control, place, text) {
  place.hidden = !text;
  if (text instanceof Node) place.replaceChildren(text);
  else place.textContent = text ?? '';
  if (control) text ? control.setAttribute('aria-invalid', 'true') : control.removeAttribute('aria-invalid');
}

// replace puts new content in place and keeps the focus where it was, by key.
export function replace(root, ...children) {
  const active = document.activeElement;
  const key = root.contains(active) ? active.dataset.key ?? active.closest('[data-key]')?.dataset.key : undefined;
  root.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (key) [...root.querySelectorAll('[data-key]')].find((n) => n.dataset.key === key)?.focus();
}

// announce tells a screen reader.
export function announce(text) {
  const line = el('p', { text });
  document.getElementById('live').append(line);
  setTimeout(() => line.remove(), 10000);
}

// toast shows a line for a while, and announces it.
export function toast(text, kind = 'good') {
  const line = el('div', { class: `toast ${kind}` }, icon(kind === 'good' ? 'done' : 'warn'), el('span', { text }),
    button('×', () => line.remove(), { kind: 'plain', label: t('toast.close') }));
  const place = document.getElementById('toasts');
  place.querySelector('.good')?.remove(); // what went well before is old news
  place.append(line);
  announce(text);
  if (kind === 'good') setTimeout(() => line.remove(), 8000);
}

// dialog opens a modal form. submit(form) resolves when it may close, and throws
// what is wrong; fail(error) shows that, and says whether it found a place.
export function dialog({ title, body, submitText, kind = 'primary', submit, fail, cancelText, wide }) {
  const heading = newId('dialog');
  const summary = el('div', { class: 'summary', role: 'alert' });
  const send = el('button', { type: 'submit', class: kind, text: submitText, data: { key: 'dialog-submit' } });
  const box = el('dialog', { 'aria-labelledby': heading, class: wide ? 'wide' : '' });
  const close = () => box.close();
  const form = el('form', { novalidate: true, method: 'dialog' },
    el('h2', { id: heading, text: title, tabindex: '-1' }), summary, body,
    el('div', { class: 'actions' }, send, button(cancelText ?? t('form.cancel'), close, { kind: 'plain' })));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (form.getAttribute('aria-busy') === 'true') return;
    summary.replaceChildren();
    form.setAttribute('aria-busy', 'true');
    send.disabled = true;
    try {
      if ((await submit(form)) !== false) close();
    } catch (error) {
      const lines = fail ? fail(error) : [error.message];
      summary.replaceChildren(...lines.map((line) => el('p', {}, icon('warn'), line instanceof Node ? line : el('span', { text: line }))));
      (form.querySelector('[aria-invalid=true]') ?? box.querySelector('h2')).focus();
    } finally {
      form.removeAttribute('aria-busy');
      send.disabled = false;
    }
  });
  const opener = document.activeElement;
  const openerKey = opener?.dataset?.key;
  box.addEventListener('close', () => {
    box.remove();
    // The page may have been drawn anew behind the dialog.
    const back = opener?.isConnected ? opener : openerKey && document.querySelector(`[data-key="${CSS.escape(openerKey)}"]`);
    (back || document.getElementById('main')).focus();
  });
  box.append(form);
  document.body.append(box);
  box.showModal();
  box.querySelector('h2').focus();
  return { box, form, send, close, summary };
}
