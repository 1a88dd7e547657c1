// The page of the service. Each chosen file becomes a job: it is sent, waited for, shown and downloaded.

const MODELS = {photo: 'RealESRGAN_x4plus', drawing: 'RealESRGAN_x4plus_anime_6B', video: 'realesr-animevideov3'};
const SIZES = ['width', 'height', 'fit'];  // in place of the scale
const DENOISABLE = 'realesr-general-x4v3';
const MILLISECONDS_BETWEEN_LOOKS = 700;
const SHOWN = /^image\/(png|jpeg|webp|gif|bmp|avif)$/, PLAYED = /\.(mp4|mov|webm)$/;  // what browsers show
const VIDEOS = /\.(avi|flv|m2ts|mkv|mov|mp4|mpe?g|ts|webm|wmv)$/i;  // browsers don't know the type of all of them

const language = navigator.languages.map(tag => tag.slice(0, 2)).find(tag => tag === 'ko' || tag === 'en') ?? 'en';
const strings = (await (await fetch(document.body.dataset.strings)).json())[language];
const number = (value, digits = 1) => value.toLocaleString(language, {maximumFractionDigits: digits});
const text = (name, values = {}) => strings[name].replace(/{(\w+)}/g, (_, key) =>
  typeof values[key] === 'number' ? number(values[key]) : [values[key]].flat().join('×'));
const translate = root => root.querySelectorAll('[data-text]').forEach(element => {
  element.textContent = strings[element.dataset.text] ?? element.textContent;  // of an option without words here
});
document.documentElement.lang = language;
translate(document);

const form = document.querySelector('#form');

async function start() {
  const files = document.querySelector('#files'), drop = document.querySelector('#drop');
  form.addEventListener('submit', event => event.preventDefault());
  form.addEventListener('change', event => {
    if (event.target.name === 'kind') form.model.value = MODELS[event.target.value];
    document.querySelector('#denoise').hidden = form.model.value !== DENOISABLE;
  });
  form.model.value = MODELS[form.kind.value];
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
  document.querySelector('#all').addEventListener('click', downloadAll);
  addEventListener('pagehide', () => {  // what was not downloaded would only wait to be removed
    for (const job of jobs) if (job.url && !job.ended) fetch(job.url, {method: 'DELETE', keepalive: true});
  });
  try {
    const {limits} = await (await fetch('healthz')).json();
    document.querySelector('#limits').textContent = text('limits', {
      megabytes: Math.floor(limits.bytes / 1e6), megapixels: Math.floor(limits.pixels / 1e6), seconds: limits.seconds});
  } catch { /* the first upload says so */ }
}

// ---- jobs ----

const jobs = [];
let lastSent = Promise.resolve();  // files are sent one after the other, so that a full queue refuses only one of them

function add(files, model) {
  for (const file of files) {
    const job = new Job(file, model);
    jobs.push(job);
    job.run();
  }
}

class Job {
  /** Without a model, that of the form; or a comparison of models, if the form asks for one. */
  constructor(file, model) {
    this.file = file;
    this.ended = false;
    this.fields = new FormData();
    this.fields.set(file.type.startsWith('video/') || VIDEOS.test(file.name) ? 'video' : 'image', file, file.name);
    for (const control of form.querySelectorAll('.options [name]')) {
      const given = control.type === 'checkbox' ? control.checked : control.value && !control.closest('[hidden]');
      if (given) this.fields.set(control.name, control.value);
    }
    if (SIZES.some(name => this.fields.has(name))) this.fields.delete('scale');
    if (this.fields.has('video') && form.model.value === MODELS[form.kind.value]) {
      this.fields.set('model', MODELS.video);
    }
    if (model) this.fields.set('model', model);
    else if (form.preview.checked) {
      this.fields.delete('model');
      this.fields.set('preview', '1');
    }
    const item = document.querySelector('#job').content.firstElementChild.cloneNode(true);
    translate(item);
    this.find = name => item.querySelector('.' + name);
    this.progress = item.querySelector('progress');
    this.item = item;
    this.find('name').textContent = file.name;
    this.find('cancel').addEventListener('click', () => this.remove());
    document.querySelector('#jobs').prepend(item);
    document.querySelector('#done').hidden = false;
  }

  async run() {
    const allowed = Number(document.body.dataset.maxBytes);
    if (this.file.size > allowed) {
      return this.fail(text('too_large', {megabytes: this.file.size / 1e6, allowed: allowed / 1e6}));
    }
    this.show(text('unsent'));
    const answered = lastSent.then(() => this.submit());
    lastSent = answered.catch(() => {});
    try {
      const answer = await answered;
      if (!answer) return;
      this.url = answer.url;
      await this.watch(answer);
    } catch (error) {
      if (!this.removed) this.fail(error instanceof TypeError ? text('unreachable') : error.message);
    }
  }

  /** Send the file, as often as the queue is full; return the job, or nothing if it was removed meanwhile. */
  async submit() {
    while (!this.removed) {
      const {status, body, wait} = await this.send();
      if (status === 202) return body;
      if (status !== 429) throw new Error(explain(body, status));
      for (let seconds = wait; seconds > 0 && !this.removed; seconds--) {
        this.show(text('busy', {seconds}));
        await sleep(1000);
      }
    }
  }

  /** Send the file once; fetch would not tell how much of it has been sent. */
  send() {
    return new Promise((resolve, reject) => {
      const request = this.request = new XMLHttpRequest();
      request.upload.addEventListener('progress', event => {
        this.progress.value = event.loaded / event.total;
        this.show(text('uploading', {percent: Math.round(100 * event.loaded / event.total)}));
      });
      request.addEventListener('load', () => {
        let body = {};
        try { body = JSON.parse(request.responseText); } catch { /* refused before it was read */ }
        resolve({status: request.status, body, wait: Number(request.getResponseHeader('Retry-After')) || 5});
      });
      for (const name of ['error', 'abort']) request.addEventListener(name, () => reject(new TypeError(name)));
      request.open('POST', 'jobs');
      request.send(this.fields);
    });
  }

  async watch(state) {
    while (!this.removed && ['queued', 'running'].includes(state.state)) {
      const share = state.total ? state.done / state.total : null;
      if (share) this.progress.value = share; else this.progress.removeAttribute('value');
      this.show(state.state === 'queued'
        ? state.position > 1 ? text('queued', {position: state.position - 1}) : text('next')
        : share ? text('running_at', {percent: Math.round(100 * share)}) : text('running'));
      await sleep(MILLISECONDS_BETWEEN_LOOKS);
      const response = await fetch(this.url);
      state = await response.json();
      if (response.status === 404) throw new Error(text('gone'));
      if (!response.ok) throw new Error(explain(state, response.status));
    }
    if (!this.removed) this.finish(state);
  }

  finish(state) {
    this.end();
    const list = this.find('warnings');
    list.hidden = !state.warnings.length;
    list.replaceChildren(...state.warnings.map(
      line => Object.assign(document.createElement('li'), {textContent: line})));
    if (state.state !== 'done') return this.fail(state.state === 'failed' ? explain(state) : text(state.state));
    this.item.classList.remove('short');
    this.show(text('done', {seconds: state.seconds}), true);
    if (state.size) {
      this.find('sizes').textContent = text('sizes', {
        before: state.size, after: state.result_size});
    }
    if (state.verdict) this.judge(state.verdict);
    this.result = {url: state.result, name: state.name};
    const link = this.find('download');
    Object.assign(link, {href: state.result, download: state.name, hidden: false});
    link.setAttribute('aria-label', text('download_name', {name: state.name}));
    document.querySelector('#all').hidden = jobs.filter(job => job.result).length < 2;
    if (state.compared.length) this.offer(state.compared);
    else if (SHOWN.test(this.file.type) && /\.(png|jpe?g|webp)$/.test(state.name)) this.compare().catch(() => {});
    else if (PLAYED.test(state.name)) this.play();
  }

  /** Show the verdict on the result: good, look (why) or bad (why). */
  judge({word, reasons}) {
    const line = this.find('verdict'), why = reasons.map(kind => strings[`why_${kind.replace(' ', '_')}`] ?? kind);
    line.dataset.word = word;
    line.textContent = strings[`verdict_${word}`] + (why.length ? ` (${why.join(', ')})` : '');
    line.hidden = false;
  }

  /** Show the picture as it was over the result, up to the slider. */
  async compare() {
    const pair = this.find('pair'), slider = pair.querySelector('input'), after = this.find('after');
    this.urls = [URL.createObjectURL(this.file), URL.createObjectURL(await (await fetch(this.result.url)).blob())];
    this.find('before').src = this.urls[0];
    after.src = this.urls[1];
    await after.decode();
    slider.setAttribute('aria-label', text('slider', {name: this.file.name}));
    const show = () => pair.style.setProperty('--at', slider.value + '%');
    slider.addEventListener('input', show);
    show();
    pair.hidden = false;
    this.allowZoom(after.naturalWidth > pair.clientWidth);
  }

  allowZoom(needed) {
    const zoom = this.find('zoom');
    zoom.hidden = !needed;
    zoom.addEventListener('click', () => this.zoom(zoom.getAttribute('aria-pressed') !== 'true'));
  }

  /** Show the sheet of a comparison, and a button for each model that upscales the whole file by it. */
  offer(compared) {
    const sheet = this.find('sheet'), list = this.find('models');
    Object.assign(sheet, {src: this.result.url, alt: text('sheet', {name: this.file.name}), hidden: false});
    list.replaceChildren(...compared.map(({model, text: figures}) => {
      const item = document.createElement('li'), button = document.createElement('button');
      const [, speed, unit, time, size, more = ''] =
        figures.match(/^(\S+) s\/(megapixel|frame), about ([^;]+), ([^,;]+)(;.*)?$/) ?? [];
      Object.assign(button, {type: 'button', textContent: text('use', {model})});
      button.addEventListener('click', () => add([this.file], model));
      item.append(button, speed ? text(unit === 'frame' ? 'frame_time' : 'megapixel_time', {
        speed, time, size: size === 'less than 1 MiB' ? text('less') : size}) + more : figures);
      return item;
    }));
    list.hidden = false;
    sheet.decode().then(() => this.allowZoom(sheet.naturalWidth > sheet.clientWidth), () => {});
  }

  /** Show every pixel of the result, in a frame that scrolls, or all of it. */
  zoom(full) {
    const frame = this.find('frame');
    this.find('zoom').setAttribute('aria-pressed', full);
    frame.classList.toggle('full', full);
    frame.tabIndex = full ? 0 : -1;  // what scrolls must be reached by the keyboard
    frame.scrollTo((frame.scrollWidth - frame.clientWidth) / 2, (frame.scrollHeight - frame.clientHeight) / 2);
  }

  play() {
    const clip = this.find('clip');
    clip.addEventListener('loadedmetadata', () => { clip.hidden = false; });  // else the browser can't play it
    clip.setAttribute('aria-label', this.result.name);
    clip.src = this.result.url;
  }

  fail(message) {
    this.end();
    this.show(text('failed'));
    const error = this.find('error');
    error.textContent = message;
    error.hidden = false;
  }

  end() {
    this.ended = true;
    this.progress.hidden = true;
    this.find('cancel').textContent = text('remove');
  }

  show(state, announce = false) {
    this.find('state').textContent = state;
    if (announce) document.querySelector('#status').textContent = `${this.file.name}: ${state}`;
  }

  remove() {
    this.removed = true;
    this.request?.abort();
    if (this.url) fetch(this.url, {method: 'DELETE'}).catch(() => {});
    this.urls?.forEach(url => URL.revokeObjectURL(url));
    jobs.splice(jobs.indexOf(this), 1);
    if (this.item.contains(document.activeElement)) {  // the focus would go to the top of the page
      const next = this.item.nextElementSibling ?? this.item.previousElementSibling;
      (next?.querySelector('.cancel') ?? document.querySelector('#files')).focus();
    }
    this.item.remove();
    document.querySelector('#done').hidden = !jobs.length;
    document.querySelector('#all').hidden = jobs.filter(job => job.result).length < 2;
  }
}

async function downloadAll() {
  for (const {result} of jobs.filter(job => job.result)) {
    const link = Object.assign(document.createElement('a'), {href: result.url, download: result.name});
    document.body.append(link);
    link.click();
    link.remove();
    await sleep(300);  // or browsers drop all but the last
  }
}

/** Say in the reader's language what was answered in place of a result. */
function explain({code, values = {}}, status) {
  if (values.field) values.field = strings[values.field] ?? values.field;
  const name = [`error_${code}`, `status_${status}`].find(each => each in strings) ?? 'error_unknown';
  return text(name, values);
}

function sleep(milliseconds) {
  return new Promise(resolve => setTimeout(resolve, milliseconds));
}

if (form) start();
