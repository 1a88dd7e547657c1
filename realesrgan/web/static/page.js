// The page of the service. A chosen file is sent and shown on a card, which takes its settings and starts its jobs.

import {Viewer} from './viewer.js';

const PRESETS = {
  photo: {model: 'RealESRGAN_x4plus'}, drawing: {model: 'RealESRGAN_x4plus_anime_6B'},
  anime: {model: 'realesr-animevideov3', steady: false},
  film: {model: 'realesr-general-x4v3', denoise: '0.5', steady: true}};
const SIZES = ['width', 'height', 'fit'];  // in place of the scale
const DENOISABLE = 'realesr-general-x4v3';
const MILLISECONDS_BETWEEN_LOOKS = 700, MILLISECONDS_BEFORE_ESTIMATE = 200;
const VIDEOS = /\.(avi|flv|m2ts|mkv|mov|mp4|mpe?g|ts|webm|wmv)$/i;  // browsers don't know the type of all of them
const SAVED = 'realesrgan/';  // how the keys of what survives a reload begin
let saved = {};
try { saved = localStorage; } catch { /* the person allows none */ }

const language = navigator.languages.map(tag => tag.slice(0, 2)).find(tag => tag === 'ko' || tag === 'en') ?? 'en';
const {[language]: strings, en: english} = JSON.parse(document.querySelector('#strings').textContent);
const number = (value, options = {}) => value.toLocaleString(language, {maximumFractionDigits: 1, ...options});
const text = (name, values = {}) => strings[name].replace(/{(\w+)}/g, (_, key) =>
  typeof values[key] === 'number' ? number(values[key]) : [values[key]].flat().join('×'));
const translate = root => root.querySelectorAll('[data-text]').forEach(element => {
  element.textContent = strings[element.dataset.text] ?? element.textContent;  // of an option without words here
});
document.documentElement.lang = language;
translate(document);

/** Say how long something takes, in words. */
function duration(seconds, digits = 0) {
  const unit = (value, name) => number(value, {style: 'unit', unit: name, unitDisplay: 'long',
                                               maximumFractionDigits: digits});
  if (seconds < 59.5) return unit(digits ? seconds : Math.max(Math.round(seconds), 1), 'second');
  const minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60);
  if (!hours) return unit(minutes, 'minute');
  return unit(hours, 'hour') + (minutes % 60 ? ` ${unit(minutes % 60, 'minute')}` : '');
}

async function start() {
  const files = document.querySelector('#files'), drop = document.querySelector('#drop');
  for (const key of Object.keys(saved).filter(each => each.startsWith(SAVED)).sort()) {
    new Card({...JSON.parse(saved[key]), key}).restore();
  }
  const add = chosen => { for (const file of chosen) new Card({name: file.name, file}).send(); };
  const take = () => { add(files.files); files.value = ''; };
  files.addEventListener('change', take);
  if (files.files.length) take();  // chosen before this script was there
  for (const name of ['dragenter', 'dragover']) {
    document.addEventListener(name, event => { event.preventDefault(); drop.classList.add('over'); });
  }
  for (const name of ['dragleave', 'drop']) {
    document.addEventListener(name, event => {
      event.preventDefault();
      if (name === 'drop' || !event.relatedTarget) drop.classList.remove('over');
    });
  }
  document.addEventListener('drop', event => add(event.dataTransfer.files));
  document.addEventListener('paste', event => add(event.clipboardData.files));
  document.querySelector('#start').addEventListener('click', () => {
    for (const card of list('ready')) if (!card.find('start').disabled) card.run();
  });
  document.querySelector('#all').addEventListener('click', downloadAll);
  try {
    const {limits} = await (await fetch('healthz')).json();
    document.querySelector('#limits').textContent = text('limits', {
      megabytes: limits.bytes / 1e6, megapixels: limits.pixels / 1e6, time: duration(limits.seconds)});
  } catch { /* the first upload says so */ }
}

// ---- cards ----

const cards = new Map();  // by their elements
const latest = {};  // the settings that were last chosen for each kind of file
const queues = {files: Promise.resolve(), jobs: Promise.resolve()};  // so that a full service refuses only one of each
let count = 0;

/** Return the cards in a state, as they stand on the page. */
const list = state => [...document.querySelectorAll(`#jobs > [data-state=${state}]`)].map(item => cards.get(item));

/** What the service answered in place of a result. */
class Refusal extends Error {
  constructor(status, body) {
    super(explain(body, status));
    this.status = status;
  }
}

class Card {
  /** `about` is what the service knows about the file; by their keys cards that are saved are in order. */
  constructor({name, file, about, settings, job, key}, after = null) {
    key ??= `${after?.key ?? SAVED}${Date.now()}-${String(count++).padStart(5, '0')}`;
    Object.assign(this, {name, file, about, settings, job, key, turn: 0});
    const item = document.querySelector('#job').content.firstElementChild.cloneNode(true);
    this.item = item;
    this.find = each => item.querySelector('.' + each);
    this.form = this.find('settings');
    this.viewer = new Viewer(item, text);
    translate(item);
    for (const option of item.querySelectorAll('[data-missing]')) {
      option.textContent = text('missing', {model: option.value});
    }
    this.find('name').textContent = name;
    const clicks = {
      start: () => this.run(), try: () => this.shown ? this.leave() : this.preview(),
      compare: () => this.preview({model: ''}),
      retry: () => this.about ? this.run() : this.send(), cancel: () => this.cancel(), remove: () => this.remove(),
      again: () => this.repeat(), download: () => this.check(), spread: () => this.spread()};
    for (const [each, act] of Object.entries(clicks)) this.find(each).addEventListener('click', act);
    this.viewer.pair.addEventListener('click', event => this.aim(event));
    this.find('mark').addEventListener('keydown', event => this.nudge(event));
    this.find('mark').setAttribute('aria-label', text('aim'));
    this.form.addEventListener('submit', event => { event.preventDefault(); this.run(); });
    this.form.addEventListener('input', event => this.change(event.target));
    cards.set(item, this);
    if (after) after.item.after(item); else document.querySelector('#jobs').append(item);
    document.querySelector('#done').hidden = false;
  }

  // ---- the file ----

  /** Send the file, and show it meanwhile. */
  async send() {
    this.enter('sending', text('unsent'));
    this.showFile();
    if (!this.file.size) return this.fail({message: text('empty'), status: 415});
    const allowed = Number(document.body.dataset.maxBytes);
    if (this.file.size > allowed) {
      return this.fail({message: text('too_large', {megabytes: this.file.size / 1e6, allowed: allowed / 1e6}),
                        status: 413});
    }
    try {
      this.about = await this.post('files', {image: this.file});
      if (this.about) this.choose();
    } catch (error) {
      if (!this.removed) this.fail(error);
    }
  }

  /** Take up a card of an earlier visit, as far as the service still has its file or its job. */
  async restore() {
    this.fill();
    this.enter('sending');
    try {
      const job = this.job && await fetch(this.job), about = await fetch(this.about.url);
      if (!about.ok && !job?.ok) return this.remove();
      this.showFile();
      if (!job?.ok) return this.choose();
      this.enter('busy');
      await this.watch(await job.json());
    } catch (error) { this.fail(error); }
  }

  get source() {
    if (this.file) this.address ??= URL.createObjectURL(this.file);
    return this.address ?? this.about.content;
  }

  get isVideo() {
    return this.about ? this.about.kind === 'video' : this.file.type.startsWith('video/') || VIDEOS.test(this.name);
  }

  showFile() {
    this.shown = null;
    this.find('try').textContent = text('preview');
    this.find('models').hidden = true;
    return this.view({url: this.source, isVideo: this.isVideo});
  }

  /** Show a picture or video, alone or before another. */
  async view(before, after = null) {
    this.viewer.pair.title = after ? '' : text('aim');
    await this.viewer.show(before, after, this.name);
    this.find('zoom').hidden = !this.viewer.isReduced;
  }

  // ---- the settings ----

  /** Let the person choose settings; `state` is shown beside the name. */
  choose(state = '') {
    if (!this.form.format.options.length) this.fill();
    this.enter('ready', state);
    this.save();
    this.estimate();
  }

  /** Offer what fits the file, and set what was chosen before. */
  fill(settings = this.settings ?? latest[this.about.kind]) {
    const {kind, formats} = this.about;
    for (const element of this.form.querySelectorAll('[data-kinds]')) {
      if (!element.dataset.kinds.includes(kind)) element.remove();
    }
    if (!this.form.format.options.length) {
      for (const format of formats.slice(kind === 'video')) {  // whose auto is mp4
        this.form.format.add(new Option(format === 'auto' ? text('format_own') : format, format));
      }
    }
    this.form.reset();
    this.set(settings ?? {preset: this.form.preset.options[0].value});
    if (!settings) this.set(PRESETS[this.form.preset.value]);
  }

  /** Set some controls, by name. */
  set(settings) {
    for (const [name, value] of Object.entries(settings)) {
      const control = this.form.elements[name];
      if (control?.type === 'checkbox') control.checked = value;
      else if (control) control.value = value;
    }
    this.find('denoise').hidden = this.form.model.value !== DENOISABLE;
    for (const slider of this.form.querySelectorAll('[type=range]')) {
      slider.closest('label').querySelector('.value').textContent = number(Number(slider.value), {style: 'percent'});
    }
    this.settings = Object.fromEntries([...this.form.elements].filter(each => each.name).map(
      each => [each.name, each.type === 'checkbox' ? each.checked : each.value]));
  }

  change(control) {
    this.set(control.name === 'preset' ? PRESETS[control.value] ?? {} : {});
    const {preset} = this.form, wanted = PRESETS[preset.value] ?? {};
    if (Object.entries(wanted).some(([name, value]) => this.settings[name] !== value)) this.set({preset: ''});
    latest[this.about.kind] = this.settings;
    this.choose();
    if (this.shown && !(control.name === 'model' && this.pick(control.value))) this.showFile();
  }

  /** Return the fields of a job. */
  fields() {
    const fields = {};
    for (const control of this.form.elements) {
      const given = control.type === 'checkbox' ? control.checked : control.value && !control.closest('[hidden]');
      if (given && control.name && control.name !== 'preset') fields[control.name] = control.value;
    }
    if (SIZES.some(name => name in fields)) delete fields.scale;
    return fields;
  }

  /** Show the size of the result and about how long it will take, or what is wrong with the settings. */
  estimate() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const query = () => `${this.about.url}?${new URLSearchParams(this.fields())}`, asked = query();
      const response = await ask(asked), body = response?.body;
      if (this.removed || this.state !== 'ready' || asked !== query()) return;
      const sizes = this.find('sizes');
      if (!response) {
        sizes.textContent = text('unreachable');
        sizes.classList.add('error');
        return;
      }
      if (response.status === 404 && this.file) return this.send();  // it has expired
      const time = body.seconds ? `, ${text('about', {time: duration(body.seconds)})}` : '';
      sizes.textContent = response.ok ? text('sizes', {before: body.size, after: body.result_size}) + time
        : explain(body, response.status);
      sizes.classList.toggle('error', !response.ok);
      for (const each of ['start', 'try', 'compare']) this.find(each).disabled = !response.ok;
    }, MILLISECONDS_BEFORE_ESTIMATE);
  }

  /** Give all other files of this kind the same settings. */
  spread() {
    for (const card of list('ready')) {
      if (card === this || card.about.kind !== this.about.kind) continue;
      card.set(this.settings);
      card.choose();
    }
  }

  /** Offer the same file once more, on a card behind this one. */
  repeat() {
    const {name, file, about, settings} = this, card = new Card({name, file, about, settings}, this);
    card.showFile();
    card.choose();
    card.item.scrollIntoView({block: 'nearest'});
    card.form.model.focus({preventScroll: true});
  }

  // ---- jobs ----

  /** Start a job; `more` are fields beside the settings, or in their place. */
  async run(more = {}) {
    const turn = ++this.turn, fields = {...this.fields(), file: this.about.id, ...more};
    this.forget();
    this.enter('busy', text('waiting'));
    try {
      const state = await this.post('jobs', fields);
      if (turn !== this.turn) { if (state) fetch(state.url, {method: 'DELETE'}); return; }
      this.job = state.url;
      this.save();
      await this.watch(state);
    } catch (error) {
      if (turn !== this.turn) return;
      if (error.status !== 404 || !this.file) return this.fail(error);
      await this.send();  // again, for it has expired
      if (this.state === 'ready') await this.run(more);
    }
  }

  /** Post a form behind those that were posted before, as often as the service is busy; return what it answers. */
  post(address, fields) {
    const turn = this.turn, form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.set(name, value);
    const answered = queues[address].then(async () => {
      while (turn === this.turn) {
        const {status, body, wait} = await this.postOnce(address, form);
        if (status < 300) return body;
        if (status !== 429) throw new Refusal(status, body);
        for (let seconds = wait; seconds > 0 && turn === this.turn; seconds--) {
          this.report(text('busy', {seconds}));
          await sleep(1000);
        }
      }
    });
    queues[address] = answered.catch(() => {});
    return answered;
  }

  /** Post a form once; fetch would not tell how much of it has been sent. */
  postOnce(address, form) {
    return new Promise((resolve, reject) => {
      const request = this.request = new XMLHttpRequest();
      request.upload.addEventListener('progress', event => {
        if (address !== 'files') return;
        this.advance(event.loaded / event.total);
        this.report(text('uploading', {percent: Math.round(100 * event.loaded / event.total)}));
      });
      request.addEventListener('load', () => {
        let body = {};
        try { body = JSON.parse(request.responseText); } catch { /* refused before it was read */ }
        resolve({status: request.status, body, wait: Number(request.getResponseHeader('Retry-After')) || 5});
      });
      for (const name of ['error', 'abort']) {
        request.addEventListener(name, () => reject(new Error(text('unreachable'))));
      }
      request.open('POST', address);
      request.send(form);
    });
  }

  async watch(state) {
    const turn = this.turn;
    while (['queued', 'running'].includes(state.state)) {
      const share = state.total ? state.done / state.total : null, percent = Math.round(100 * share);
      this.advance(share);
      const left = share > 0.05 && state.seconds > 3 ? state.seconds * (1 - share) / share : 0;
      this.report(state.state === 'queued'
        ? state.position > 1 ? text('queued', {position: state.position - 1}) : text('next')
        : left ? text('running_left', {percent, time: duration(left)})
        : share ? text('running_at', {percent}) : text('running'));
      let response = null;
      while (!response) {
        await sleep(MILLISECONDS_BETWEEN_LOOKS);
        if (turn !== this.turn) return;
        response = await ask(this.job);
        if (!response) this.report(text('unreachable'));  // the job goes on meanwhile
      }
      if (turn !== this.turn) return;
      if (response.status === 404) throw new Error(text('gone'));
      state = response.body;
      if (!response.ok) throw new Refusal(response.status, state);
    }
    if (state.state === 'failed') this.fail({message: explain(state)});
    else if (state.state !== 'done') this.choose();
    else if (state.part) this.offer(state);
    else this.finish(state);
  }

  finish(state) {
    this.enter('done', text('done', {time: duration(state.seconds, 1)}), true);
    this.find('models').hidden = true;
    const lines = this.find('warnings'), link = this.find('download'), {size, result_size: after, model} = state;
    const told = state.verdict?.messages ?? [];  // in the reader's language, by the verdict
    const warnings = state.warnings.filter(line => !told.some(message => line.endsWith(message)));
    lines.hidden = !warnings.length;
    lines.replaceChildren(...warnings.map(line => {
      const told = retell(line);
      return Object.assign(document.createElement('li'), {textContent: told ?? line, lang: told ? language : 'en'});
    }));
    this.find('sizes').textContent = `${text('sizes', {before: size, after})}, ${model}`;
    if (state.verdict) this.judge(state.verdict);
    Object.assign(link, {href: state.result, download: state.name});
    link.setAttribute('aria-label', text('download_name', {name: state.name}));
    const isVideo = /\.(mp4|mov|webm|mkv)$/.test(state.name);
    this.view({url: this.source, isVideo: this.isVideo}, {url: state.result, isVideo});
  }

  /** Say so if the result that is being downloaded is no longer there. */
  async check() {
    const {turn} = this, response = await ask(this.job);
    if (response?.status === 404 && turn === this.turn) this.fail({message: text('gone')});
  }

  /** Show the verdict on the result: good, look (why) or bad (why). */
  judge({word, reasons}) {
    const line = this.find('verdict'), why = reasons.map(kind => strings[`why_${kind.replace(' ', '_')}`] ?? kind);
    line.dataset.word = word;
    line.textContent = strings[`verdict_${word}`] + (why.length ? ` (${why.join(', ')})` : '');
    line.hidden = false;
  }

  preview(more = {}) {
    const [x, y] = this.place ?? [], {size: [width, height]} = this.about;
    const at = this.place ? {preview_at: `${Math.round(x * width)},${Math.round(y * height)}`} : {};
    return this.run({preview: 1, ...at, ...more});
  }

  /** Take previews where the picture is clicked on, or again where the service chooses if that is the mark. */
  aim({target, clientX, clientY}) {
    if (this.state !== 'ready' || this.shown || this.viewer.isFull) return;
    const {left, top, width, height} = this.viewer.pair.getBoundingClientRect(), mark = this.find('mark');
    this.move(target === mark ? null : [(clientX - left) / width, (clientY - top) / height]);
    mark.focus({preventScroll: true});
  }

  nudge(event) {
    const [right, down] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [];
    if (right === undefined) return;
    event.preventDefault();
    const [x, y] = this.place ?? [0.5, 0.5];
    this.move([x + right / 50, y + down / 50].map(share => Math.min(Math.max(share, 0), 1)));
  }

  /** Mark where previews are taken, in shares of width and height; null for where the service chooses. */
  move(place) {
    this.place = place;
    const mark = this.find('mark'), [x, y] = place ?? [0.5, 0.5];
    mark.classList.toggle('set', Boolean(place));
    mark.style.setProperty('--x', `${100 * x}%`);
    mark.style.setProperty('--y', `${100 * y}%`);
  }

  /** Show all of the file again after a preview. */
  leave() {
    this.choose();
    this.showFile();
  }

  /** Show what a preview has found: a part of the file by each model, what all of it would take, and how it flickers. */
  offer({part, compared}) {
    this.choose(text('previewed'));
    this.shown = {part, compared};
    this.find('try').textContent = text('whole');
    const models = this.find('models');
    models.replaceChildren(...compared.map(each => {
      const item = document.createElement('li'), button = document.createElement('button');
      Object.assign(button, {type: 'button', textContent: each.model, value: each.model, disabled: !each.picture});
      button.addEventListener('click', () => {
        this.form.model.value = each.model;
        this.change(this.form.model);
      });
      const {flicker} = each, parts = each.error ? [explain(each)] : [
        each.seconds ? text('about', {time: duration(each.seconds)}) : '',
        each.bytes < 1e6 ? text('less') : text('weighs', {megabytes: Math.round(each.bytes / 1e6)}),
        flicker ? text('flicker', {before: number(flicker.source), after: number(flicker.steadied ?? flicker.result)}) : ''];
      item.append(button, parts.filter(Boolean).join(', '));
      return item;
    }));
    models.hidden = false;
    this.pick(this.form.model.value) || this.pick(compared.find(each => each.picture).model);
  }

  /** Show the part by a model, if the preview has it. */
  pick(model) {
    const {part, compared} = this.shown, found = compared.find(each => each.model === model && each.picture);
    if (!found) return false;
    for (const button of this.find('models').querySelectorAll('button')) {
      button.setAttribute('aria-pressed', button.value === model);
    }
    this.view({url: part}, {url: found.picture});
    return true;
  }

  fail({message, status}) {
    this.enter('failed', text('failed'));
    this.find('error').textContent = message;
    this.find('error').hidden = false;
    this.find('retry').hidden ||= !this.about && status >= 400 && status < 500;  // the same file is refused again
  }

  cancel() {
    this.turn++;
    this.request?.abort();
    this.forget();
    this.choose();
  }

  /** Remove the last job from the service. */
  forget() {
    if (this.job) fetch(this.job, {method: 'DELETE'}).catch(() => {});
    this.job = null;
  }

  // ---- the card ----

  /** Show what there is in a state: sending, ready, busy, done or failed. */
  enter(state, words = '', announce = false) {
    this.state = this.item.dataset.state = state;
    for (const element of this.item.querySelectorAll('[data-when]')) {
      element.hidden = !element.dataset.when.split(' ').includes(state);
    }
    this.form.hidden ||= !this.about;
    this.form.firstElementChild.disabled = state === 'busy';
    for (const name of ['error', 'verdict', 'warnings']) this.find(name).hidden = true;
    this.find('sizes').classList.remove('error');
    this.advance(null);
    this.report(words, announce);
    update();
  }

  advance(share) {
    const bar = this.item.querySelector('progress');
    if (share) bar.value = share; else bar.removeAttribute('value');
  }

  report(words, announce = false) {
    this.find('state').textContent = words;
    if (announce) document.querySelector('#status').textContent = `${this.name}: ${words}`;
  }

  /** Remember the card for the next visit. */
  save() {
    const {name, about, settings, job} = this;
    try { saved[this.key] = JSON.stringify({name, about, settings, job}); } catch { /* it is full */ }
  }

  remove() {
    this.turn++;
    this.removed = true;
    this.request?.abort();
    this.forget();
    cards.delete(this.item);
    const isShared = [...cards.values()].some(card => card.about?.id === this.about?.id);
    if (this.about && !isShared) fetch(this.about.url, {method: 'DELETE'}).catch(() => {});
    if (this.address) URL.revokeObjectURL(this.address);
    delete saved[this.key];
    if (this.item.contains(document.activeElement)) {  // the focus would go to the top of the page
      const next = this.item.nextElementSibling ?? this.item.previousElementSibling;
      (next?.querySelector('.remove:not([hidden]), .cancel:not([hidden])') ?? document.querySelector('#files')).focus();
    }
    this.item.remove();
    document.querySelector('#done').hidden = !cards.size;
    update();
  }
}

/** Show the buttons that are for several cards where there are several. */
function update() {
  const ready = list('ready');
  document.querySelector('#start').hidden = ready.length < 2;
  document.querySelector('#all').hidden = list('done').length < 2;
  for (const card of ready) {
    card.find('spread').hidden = !ready.some(other => other !== card && other.about.kind === card.about.kind);
  }
}

async function downloadAll() {
  for (const card of list('done')) {
    card.find('download').click();
    await sleep(300);  // or browsers drop all but the last
  }
}

/** Say in the reader's language what was answered in place of a result. */
function explain({code, values = {}}, status) {
  const name = [`error_${code}`, `status_${status}`].find(each => each in strings) ?? 'error_unknown';
  const told = {...values, field: strings[values.field] ?? values.field};
  for (const key of ['seconds', 'limit']) if (key in told) told[key] = duration(told[key]);
  return text(name, told);
}

/** Say a warning of the library in the reader's language, without hints for the command line; or nothing, if there are
 *  no words for it. By the English ones it is recognised. */
function retell(line) {
  for (const [name, words] of Object.entries(english)) {
    if (!name.startsWith('warning_')) continue;
    const pattern = words.replaceAll('.', '\\.').replace(/{(\w+)}/g, '(?<$1>.+?)');
    const found = line.match(new RegExp(`${pattern}([:;].*)?$`));
    if (found) return text(name, found.groups);
  }
}

/** Fetch JSON; null if there is no answer, or one of a proxy's that is none. */
async function ask(address) {
  try {
    const response = await fetch(address);
    return {ok: response.ok, status: response.status, body: await response.json()};
  } catch { return null; }
}

function sleep(milliseconds) {
  return new Promise(resolve => setTimeout(resolve, milliseconds));
}

if (document.querySelector('#drop')) start();
