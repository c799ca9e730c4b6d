/**
 * The graph as a drawing: people as discs that keep their distance, follows as arrows from the follower to whom he follows,
 * and a post as dots that travel the other way, to those who get it.
 */
import { byId, draw, hueOf, initialOf, make } from './dom.js';

/** People that are drawn: those with the most to do with others. */
const DRAWN_MAX = 40;
const SIZE = 400;
const MARGIN = 34;
/** Of the names below the discs. The width of a letter is for a picture that is not shown: there nothing can be measured. */
const LABEL_HEIGHT = 16;
const LETTER_WIDTH = 10;
const PULSE_MS = 900;
/** Dots on their way at a time: a flood is no reason to stop the show. */
const PULSES_MAX = 60;
const STILL = 0.02;
const CURVE = 0.12;

export class GraphDrawing {
  #graph;
  #me;
  #svg = byId('drawing');
  #edgeLayer = draw('g');
  #pulseLayer = draw('g');
  #nodeLayer = draw('g');
  #nodes = new Map();
  #edges = [];
  #heat = 0;
  #frame;
  #still = matchMedia('(prefers-reduced-motion: reduce)');

  constructor(graph, me) {
    this.#graph = graph;
    this.#me = me;
    this.#svg.replaceChildren(this.#edgeLayer, this.#pulseLayer, this.#nodeLayer);
    graph.listen(() => this.#change());
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#svg.replaceChildren();
  }

  /** People have come or gone, or follow others than before. */
  #change() {
    const people = this.#chosen();
    for (const [name, node] of this.#nodes) {
      if (people.includes(name)) continue;
      node.element.remove();
      this.#nodes.delete(name);
    }
    people.forEach((name, index) => {
      if (!this.#nodes.has(name)) this.#nodes.set(name, this.#newNode(name, index, people.length));
    });
    this.#edgeLayer.replaceChildren();
    this.#edges = people.flatMap((who) =>
      people.filter((whom) => this.#graph.follows(who, whom)).map((whom) => this.#newEdge(who, whom)),
    );
    for (const [name, node] of this.#nodes) {
      node.radius = 15 + Math.min(9, 2.5 * Math.sqrt(this.#graph.followersCount(name)));
      node.disc.setAttribute('r', node.radius);
      node.label.setAttribute('y', node.radius + 13);
      // No name leaves the picture.
      const width = node.label.getComputedTextLength() || node.label.textContent.length * LETTER_WIDTH;
      node.margin = Math.max(MARGIN, width / 2 + 4);
    }
    this.#describe();
    this.#warm();
  }

  #chosen() {
    const people = this.#graph.people;
    if (people.length <= DRAWN_MAX) return people;
    const others = people.filter((name) => name !== this.#me);
    others.sort((one, other) => this.#graph.degree(other) - this.#graph.degree(one));
    return [this.#me, ...others.slice(0, DRAWN_MAX - 1)];
  }

  #newNode(name, index, count) {
    // Around a circle, and not all at one point: from there nobody would get away.
    const angle = (2 * Math.PI * index) / count + 0.3;
    const disc = draw('circle', { r: 18 });
    const shown = [...name.split('@')[0]];
    const label = draw(
      'text',
      { class: 'label' },
      shown.length > 14 ? `${shown.slice(0, 13).join('')}…` : shown.join(''),
    );
    const initial = draw('text', { class: 'initial' }, initialOf(name).toUpperCase());
    const element = draw('g', { class: name === this.#me ? 'node mine' : 'node' }, disc, initial, label);
    element.append(draw('title', {}, name));
    element.style.setProperty('--hue', hueOf(name));
    this.#nodeLayer.append(element);
    return {
      x: SIZE / 2 + 110 * Math.cos(angle),
      y: SIZE / 2 + 110 * Math.sin(angle),
      dx: 0,
      dy: 0,
      radius: 18,
      margin: MARGIN,
      element,
      disc,
      label,
    };
  }

  #newEdge(who, whom) {
    const kind = who === this.#me || whom === this.#me ? ' mine' : '';
    const line = draw('path', { class: `edge${kind}` });
    const tip = draw('path', { class: `tip${kind}` });
    this.#edgeLayer.append(line, tip);
    return { who, whom, line, tip };
  }

  #describe() {
    const [people, follows] = [this.#graph.people.length, this.#graph.followsCount];
    const hidden = people - this.#nodes.size;
    const counts = `${people} ${people === 1 ? 'person' : 'people'}, ${follows} ${follows === 1 ? 'follow' : 'follows'}`;
    byId('graph-caption').textContent =
      `${counts}.${hidden > 0 ? ` ${hidden} are not drawn.` : ''} Arrows point to whom one follows.`;
    byId('graph-text').replaceChildren(
      ...[...this.#nodes.keys()].map((name) => {
        const following = this.#graph.following(name);
        return make('li', {}, `${name} follows ${following.length > 0 ? following.join(', ') : 'nobody'}.`);
      }),
    );
  }

  // ---- forces

  #warm() {
    this.#heat = 1;
    if (this.#still.matches) {
      while (this.#heat > STILL) this.#step();
      this.#place();
    } else if (this.#frame === undefined) this.#animate();
  }

  #animate() {
    this.#frame = requestAnimationFrame(() => {
      this.#frame = undefined;
      this.#step();
      this.#place();
      if (this.#heat > STILL) this.#animate();
    });
  }

  #step() {
    const nodes = [...this.#nodes.values()];
    const reach = Math.min(150, 520 / Math.sqrt(nodes.length + 1));
    for (const [index, one] of nodes.entries()) {
      one.dx += (SIZE / 2 - one.x) * 0.012;
      one.dy += (SIZE / 2 - one.y) * 0.012;
      for (const other of nodes.slice(index + 1)) push(one, other, reach);
    }
    for (const { who, whom } of this.#edges) pull(this.#nodes.get(who), this.#nodes.get(whom), reach);
    for (const node of nodes) {
      node.x = clamp(node.x + node.dx * this.#heat, node.margin);
      node.y = clamp(node.y + node.dy * this.#heat, MARGIN);
      node.dx *= 0.6;
      node.dy *= 0.6;
    }
    this.#heat *= 0.985;
  }

  #place() {
    for (const { element, x, y } of this.#nodes.values()) {
      element.setAttribute('transform', `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    }
    for (const { who, whom, line, tip } of this.#edges) {
      const { from, bend, to, angle } = this.#course(who, whom);
      line.setAttribute('d', `M${from.x} ${from.y}Q${bend.x} ${bend.y} ${to.x} ${to.y}`);
      tip.setAttribute('d', 'M0 0L-9 -4.5L-9 4.5Z');
      tip.setAttribute('transform', `translate(${to.x} ${to.y}) rotate(${(angle * 180) / Math.PI})`);
    }
  }

  /** The way of an arrow, bent a little, so that two who follow each other have two of them. */
  #course(who, whom) {
    const [a, b] = [this.#nodes.get(who), this.#nodes.get(whom)];
    const bend = { x: (a.x + b.x) / 2 - (b.y - a.y) * CURVE, y: (a.y + b.y) / 2 + (b.x - a.x) * CURVE };
    const from = towards(a, bend, a.radius + 2);
    const to = towards(b, bend, b.radius + 4);
    return { from, bend, to, angle: Math.atan2(to.y - bend.y, to.x - bend.x) };
  }

  // ---- posts on their way

  /** Somebody has said something: to each of his followers goes a dot. */
  pulse(author) {
    if (this.#still.matches || document.hidden) return;
    for (const { who, whom } of this.#edges) {
      if (whom !== author || this.#pulseLayer.childElementCount >= PULSES_MAX) continue;
      const dot = draw('circle', { class: 'pulse', r: 5 });
      this.#pulseLayer.append(dot);
      const start = performance.now();
      const move = (now) => {
        const t = Math.min(1, (now - start) / PULSE_MS);
        if (t >= 1 || !this.#nodes.has(who) || !this.#nodes.has(whom)) {
          dot.remove();
          return;
        }
        const { from, bend, to } = this.#course(who, whom);
        // From the end of the arrow to its beginning.
        const s = 1 - t * t * (3 - 2 * t);
        dot.setAttribute('cx', (1 - s) ** 2 * from.x + 2 * s * (1 - s) * bend.x + s ** 2 * to.x);
        dot.setAttribute('cy', (1 - s) ** 2 * from.y + 2 * s * (1 - s) * bend.y + s ** 2 * to.y);
        requestAnimationFrame(move);
      };
      requestAnimationFrame(move);
    }
  }
}

function push(one, other, reach) {
  const [x, y] = [other.x - one.x || 0.1, other.y - one.y || 0.1];
  const distance = Math.hypot(x, y);
  const force = (reach / distance) ** 2 * 0.9;
  one.dx -= (x / distance) * force;
  one.dy -= (y / distance) * force;
  other.dx += (x / distance) * force;
  other.dy += (y / distance) * force;
}

function pull(one, other, reach) {
  const [x, y] = [other.x - one.x, other.y - one.y];
  const distance = Math.hypot(x, y) || 1;
  const force = (distance - reach) * 0.012;
  one.dx += (x / distance) * force;
  one.dy += (y / distance) * force;
  other.dx -= (x / distance) * force;
  other.dy -= (y / distance) * force;
}

/** The point so far from somebody in the direction of something, or below the name where that is in the way. */
function towards(from, to, gap) {
  const distance = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const length = gap + Math.max(0, (to.y - from.y) / distance) * LABEL_HEIGHT;
  return { x: from.x + ((to.x - from.x) / distance) * length, y: from.y + ((to.y - from.y) / distance) * length };
}

function clamp(value, margin) {
  return Math.max(margin, Math.min(SIZE - margin, value));
}
