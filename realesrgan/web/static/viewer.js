// Shows a picture or a video, or two of them with a slider between; in full size the mouse pans and the wheel zooms.

const MOST_ZOOM = 8, MOST_DRIFT = 0.1;  // seconds by which two videos may be apart

export class Viewer {
  constructor(item, text) {
    const find = name => item.querySelector('.' + name);
    Object.assign(this, {text, frame: find('frame'), pair: find('pair'), split: find('split'), handle: find('handle'),
                         button: find('zoom'), player: find('player'), play: find('play'), seek: find('seek'),
                         unshown: find('unshown')});
    Object.assign(this, {turn: 0, isFull: false, scale: 1, media: []});
    this.split.addEventListener('input', () => this.move(Number(this.split.value)));
    this.pair.addEventListener('pointerdown', event => this.drag(event));
    this.pair.addEventListener('dragstart', event => event.preventDefault());
    this.button.addEventListener('click', () => this.fill(!this.isFull));
    this.frame.addEventListener('wheel', event => {
      if (!this.isFull) return;
      event.preventDefault();
      this.zoom(this.scale * Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, {passive: false});
    this.frame.addEventListener('keydown', event => {
      const factor = {'+': 1.25, '=': 1.25, '-': 0.8}[event.key];
      if (this.isFull && factor) this.zoom(this.scale * factor);
    });
    this.play.addEventListener('click', () => this.lead.paused ? this.lead.play() : this.lead.pause());
    this.seek.addEventListener('input', () => { this.lead.currentTime = this.seek.value * this.lead.duration; });
  }

  /** Show one medium, or a second one to the right of the slider, as far as the browser can. */
  async show(before, after, name) {
    const turn = ++this.turn;
    const loaded = await Promise.all([before, after].map(each => each && load(each)));
    if (turn !== this.turn) return;
    for (const old of this.media) old.remove();
    this.media = loaded.filter(Boolean);
    this.media.forEach((medium, at) => { medium.className = at < this.media.length - 1 ? 'before' : 'after'; });
    this.pair.prepend(...this.media);
    const isPair = this.media.length > 1;
    this.pair.style.setProperty('--ratio', this.width / this.height);
    this.pair.classList.toggle('single', !isPair);
    this.split.disabled = !isPair;
    this.split.setAttribute('aria-label', this.text('slider', {name}));
    this.frame.hidden = !this.media.length;
    this.unshown.hidden = !this.frame.hidden;
    this.fill(false);
    this.move(50);
    this.link();
  }

  get last() { return this.media.at(-1); }
  get width() { return this.last?.naturalWidth || this.last?.videoWidth || 0; }
  get height() { return this.last?.naturalHeight || this.last?.videoHeight || 1; }
  get isReduced() { return this.width > this.pair.clientWidth; }

  move(share) {
    this.split.value = share;
    this.pair.style.setProperty('--at', `${share}%`);
  }

  /** Follow the pointer: the line between both follows it, or in full size what is shown does. */
  drag(event) {
    const moves = this.media.length > 1 && (!this.isFull || event.target === this.handle);
    if (event.button || (!moves && (!this.isFull || event.pointerType === 'touch'))) return;  // which scrolls by itself
    event.preventDefault();  // or it would select
    (moves ? this.split : this.frame).focus({preventScroll: true});
    this.pair.setPointerCapture(event.pointerId);
    let {clientX: x, clientY: y} = event;
    const follow = ({clientX, clientY}) => {
      if (moves) {
        const {left, width} = this.pair.getBoundingClientRect();
        this.move(Math.min(Math.max(100 * (clientX - left) / width, 0), 100));
      } else {
        this.frame.scrollBy(x - clientX, y - clientY);
        [x, y] = [clientX, clientY];
      }
    };
    const end = () => this.pair.removeEventListener('pointermove', follow);
    follow(event);
    this.pair.addEventListener('pointermove', follow);
    for (const name of ['pointerup', 'pointercancel']) this.pair.addEventListener(name, end, {once: true});
  }

  /** Show every pixel, in a frame that scrolls, or all of it. */
  fill(isFull) {
    this.isFull = isFull;
    this.button.setAttribute('aria-pressed', isFull);
    this.frame.classList.toggle('full', isFull);
    this.frame.tabIndex = isFull ? 0 : -1;  // what scrolls must be reached by the keyboard
    this.pair.style.width = '';
    if (!isFull) return;
    this.scale = this.frame.clientWidth / this.width;
    this.zoom(1);
  }

  /** Scale what is shown in full size around a place, or the middle of the frame. */
  zoom(scale, clientX, clientY) {
    const {frame, pair} = this, box = frame.getBoundingClientRect();
    const x = clientX === undefined ? box.width / 2 : clientX - box.left;
    const y = clientY === undefined ? box.height / 2 : clientY - box.top;
    const share = [(frame.scrollLeft + x) / pair.offsetWidth, (frame.scrollTop + y) / pair.offsetHeight];
    this.scale = Math.min(Math.max(scale, frame.clientWidth / this.width), MOST_ZOOM);
    pair.style.width = `${this.width * this.scale}px`;
    frame.scrollTo(share[0] * pair.offsetWidth - x, share[1] * pair.offsetHeight - y);
  }

  /** Let two videos play as one. */
  link() {
    const videos = this.media.filter(medium => medium.tagName === 'VIDEO'), lead = this.lead = videos.at(-1);
    this.player.hidden = !lead;
    if (!lead) return;
    lead.muted = false;  // it plays when it is told to
    const follow = () => {
      for (const video of videos) {
        if (video === lead) continue;
        if (lead.paused || Math.abs(video.currentTime - lead.currentTime) > MOST_DRIFT) {
          video.currentTime = lead.currentTime;
        }
        if (video.paused !== lead.paused) lead.paused ? video.pause() : video.play();
      }
      this.seek.value = lead.currentTime / lead.duration || 0;
      this.play.textContent = this.text(lead.paused ? 'play' : 'pause');
    };
    this.seek.setAttribute('aria-label', this.text('seek'));
    for (const name of ['play', 'pause', 'timeupdate', 'seeking', 'seeked']) lead.addEventListener(name, follow);
    follow();
  }
}

/** Return an element that shows a picture or a video; null if the browser can't. */
async function load({url, isVideo}) {
  const element = document.createElement(isVideo ? 'video' : 'img');
  element.draggable = false;
  if (!isVideo) {
    Object.assign(element, {src: url, alt: ''});
    return element.decode().then(() => element, () => null);
  }
  Object.assign(element, {src: url, muted: true, loop: true, playsInline: true, preload: 'auto'});
  return new Promise(resolve => {
    element.addEventListener('loadeddata', () => resolve(element));
    element.addEventListener('error', () => resolve(null));
  });
}
